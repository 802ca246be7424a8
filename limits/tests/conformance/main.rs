//! What every implementation of limits and of repeats has to do. A new implementation is one more line in `on_every_store!`.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

mod books;
mod budgets;
#[cfg(has_redis)]
mod faults;
mod forgets;
mod leases;
mod levels;
mod model;
mod races;
mod rates;
mod repeats;
mod support;
mod totals;

/// Makes one module per implementation, with every case as a test in it.
macro_rules! on_every_store {
    ($($store:ident #[$test:meta] #[$when:meta] => $open:expr),+ ; $cases:tt) => {
        $(on_every_store!(@ $store, #[$test], #[$when], $open, $cases);)+
    };
    (@ $store:ident, #[$test:meta], #[$when:meta], $open:expr, [$($module:ident :: $case:ident),+ $(,)?]) => {
        mod $store {
            $(#[$test]
            #[$when]
            async fn $case() {
                crate::$module::$case(&$open.await).await;
            })+
        }
    };
}

on_every_store! {
    memory #[tokio::test(start_paused = true)] #[cfg(all())] => crate::support::Store::in_memory(),
    redis #[tokio::test]
        #[cfg_attr(not(has_redis), ignore = "needs Redis: apt-get install redis-server")] => crate::support::Store::in_redis();
    [
        rates::a_bucket_begins_empty_and_is_full_after_a_minute,
        rates::a_refusal_says_when_there_is_room,
        rates::what_was_not_used_returns_to_the_bucket_it_came_from,
        rates::what_is_more_than_a_whole_minutes_worth_is_never_let_in,
        rates::what_asks_for_nothing_passes_an_empty_bucket,
        rates::a_limit_that_changes_keeps_the_bucket_as_full_in_proportion,
        rates::a_rate_in_shadow_mode_tells_what_it_would_have_refused_and_takes_nothing_for_it,
        rates::input_and_output_have_buckets_of_their_own,
        budgets::a_budget_holds_what_is_reserved_and_then_what_was_used,
        budgets::a_day_and_a_month_count_for_themselves,
        budgets::a_soft_limit_refuses_nothing,
        budgets::a_budget_in_shadow_mode_tells_and_counts,
        budgets::a_budget_of_zero_refuses_what_costs_and_nothing_else,
        budgets::a_call_that_costs_nothing_passes_a_spent_budget_and_one_that_nobody_has_counted,
        budgets::what_is_missing_decides_when_to_come_back,
        budgets::a_limit_lowered_below_what_is_held_takes_nothing_away,
        budgets::a_limit_that_comes_later_counts_what_is_held,
        budgets::a_request_counts_in_the_period_that_it_was_admitted_in,
        budgets::training_has_a_budget_of_its_own,
        budgets::versions_are_not_counted_here,
        budgets::the_largest_numbers_are_counted_exactly,
        levels::one_reserve_takes_at_all_levels_or_at_none,
        levels::violations_are_told_broadest_first,
        levels::members_of_a_tenant_have_budgets_of_their_own,
        levels::standings_are_told_broadest_first_with_what_is_left,
        totals::a_budget_asks_for_its_total_once,
        totals::an_older_total_changes_nothing,
        totals::totals_of_two_gateways_may_come_out_of_order,
        totals::a_total_that_comes_with_a_write_is_not_one_that_was_read,
        totals::counting_twice_is_counting_once,
        totals::an_unknown_budget_in_shadow_mode_refuses_nothing,
        totals::a_request_of_another_tenant_is_not_let_go,
        leases::a_lapsed_request_gives_back_budgets_and_no_buckets,
        leases::a_renewed_request_is_held,
        leases::what_is_settled_stays_until_a_total_counts_it,
        leases::what_is_not_known_is_said_and_can_be_restored,
        leases::what_is_restored_refuses_nothing_and_takes_nothing_from_buckets,
        leases::what_is_known_is_not_restored,
        leases::reserving_twice_takes_once,
        leases::settling_twice_or_the_unknown_has_no_effect,
        leases::more_than_was_reserved_counts_as_what_was_reserved,
        leases::a_request_that_used_nothing_is_let_go_at_once,
        repeats::the_first_runs_and_the_second_hears_of_it,
        repeats::an_ended_request_is_answered_with_what_was_kept,
        repeats::another_body_under_the_same_key_is_a_mismatch,
        repeats::a_forgotten_request_may_run_again,
        repeats::a_request_that_nobody_renews_may_run_again,
        repeats::keys_of_two_tenants_have_nothing_in_common,
        repeats::only_the_request_that_runs_can_end_or_be_forgotten,
        repeats::an_ended_request_is_forgotten_after_a_day,
        repeats::beyond_the_bound_what_ended_first_is_forgotten,
        repeats::an_answer_that_is_too_long_is_not_kept,
    ]
}
