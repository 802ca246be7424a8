//! What every implementation of the queue has to do. A new implementation is one more line in `on_every_queue!`.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

mod caps;
mod endings;
mod fairness;
#[cfg(has_redis)]
mod faults;
mod flood;
mod gateways;
mod leases;
mod model;
mod orders;
mod peeking;
mod popular;
mod settlements;
mod stealing;
mod support;

/// Makes one module per implementation, with every case as a test in it.
macro_rules! on_every_queue {
    ($($queue:ident #[$test:meta] #[$when:meta] => $open:expr),+ ; $cases:tt) => {
        $(on_every_queue!(@ $queue, #[$test], #[$when], $open, $cases);)+
    };
    (@ $queue:ident, #[$test:meta], #[$when:meta], $open:expr, [$($module:ident :: $case:ident),+ $(,)?]) => {
        mod $queue {
            $(#[$test]
            #[$when]
            async fn $case() {
                crate::$module::$case($open(crate::support::config())).await;
            })+
        }
    };
}

on_every_queue! {
    memory #[tokio::test(start_paused = true)] #[cfg(all())] => crate::support::Queue::in_memory,
    redis #[tokio::test]
        #[cfg_attr(not(has_redis), ignore = "needs Redis: apt-get install redis-server")] => crate::support::Queue::in_redis;
    [
        fairness::one_tenants_flood_does_not_delay_another,
        fairness::a_node_full_of_one_tenants_work_takes_one_job_of_each_other,
        fairness::a_wait_for_newcomers_hears_only_of_them,
        fairness::two_backlogged_tenants_get_the_same_service_within_the_bound,
        fairness::a_heavier_job_costs_its_tenant_less,
        fairness::a_tenant_that_paused_earns_no_credit,
        fairness::jobs_of_one_tenant_come_in_order,
        fairness::reporting_progress_twice_charges_once,
        leases::a_job_is_delivered_to_one_node_only,
        leases::a_renewed_lease_lives_on,
        leases::an_expired_lease_is_delivered_again_with_the_next_attempt,
        leases::a_stale_attempt_can_do_nothing,
        leases::a_failed_attempt_is_tried_again_in_its_place,
        leases::what_one_node_has_failed_is_another_live_nodes_first,
        leases::the_gateway_can_hand_in_what_it_has_before_the_next_delivery,
        leases::after_three_deliveries_the_job_is_a_dead_letter,
        leases::a_dead_letter_can_be_replayed,
        leases::what_is_given_back_does_not_count_as_a_delivery,
        leases::a_gateway_takes_back_what_it_can_read_no_more_of,
        leases::what_a_gateway_takes_back_too_often_is_a_dead_letter,
        leases::what_a_drained_node_hands_over_counts_as_no_delivery,
        leases::a_cancelled_job_that_is_taken_back_is_over,
        leases::many_claimers_lose_nothing_and_repeat_nothing,
        endings::a_cancelled_job_is_never_delivered,
        endings::the_node_hears_of_a_cancellation_at_once,
        endings::a_cancelled_job_whose_node_is_lost_is_not_tried_again,
        endings::a_job_past_its_deadline_is_dropped_and_reported,
        endings::a_deadline_that_passes_during_a_lost_attempt_is_reported,
        endings::each_delivery_says_what_is_left_of_the_job,
        endings::a_deadline_that_no_clock_can_hold_is_none,
        endings::a_notice_reaches_only_its_own_gateway,
        endings::the_doorbell_rings_when_work_comes,
        endings::the_doorbell_stays_silent_for_a_lane_of_others,
        settlements::what_a_node_says_reaches_the_gateway_once,
        settlements::a_job_that_is_cancelled_while_it_runs_is_settled_by_its_node,
        settlements::a_job_that_is_cancelled_while_it_waits_is_settled_with_nothing,
        settlements::a_job_that_a_node_ends_at_its_deadline_is_settled_with_what_it_computed,
        settlements::a_job_that_no_node_took_in_time_is_settled_with_nothing,
        settlements::only_the_live_attempt_is_counted,
        settlements::a_lost_node_is_counted_with_what_it_reported,
        settlements::a_cancelled_job_whose_node_is_lost_is_settled,
        settlements::a_dead_letter_is_settled_and_its_replay_is_not,
        settlements::a_refused_job_is_not_settled,
        gateways::a_settlement_with_an_account_stays_until_it_is_acknowledged,
        gateways::a_lost_gateways_settlements_are_given_to_another_once,
        gateways::what_is_not_acknowledged_is_given_again,
        gateways::a_gateway_that_comes_back_hears_how_its_jobs_ended,
        gateways::a_settlement_without_an_account_is_nobodys,
        gateways::a_live_gateway_keeps_what_is_its_own,
        gateways::a_gateway_that_submits_lives,
        gateways::the_jobs_of_a_request_are_given_together_when_none_is_open,
        gateways::what_a_lost_gateway_asked_for_is_not_tried_again,
        gateways::what_is_said_of_jobs_that_are_over_or_unknown_changes_nothing,
        gateways::a_queue_that_has_lost_nothing_is_in_the_same_life,
        gateways::a_job_that_the_queue_has_lost_goes_on_after_its_attempts,
        caps::a_tenant_over_its_cap_is_refused_with_the_numbers,
        caps::a_full_pool_refuses_everyone,
        caps::however_many_jobs_others_have_a_tenant_without_any_gets_in,
        caps::a_job_that_comes_back_keeps_its_place_in_a_full_queue,
        caps::running_jobs_count_where_the_cap_says_so,
        caps::submitting_twice_queues_once,
        caps::a_refused_job_leaves_nothing_behind,
        orders::an_order_reaches_those_that_wait_at_once,
        orders::a_node_hears_what_stands_after_the_last_that_it_carried_out,
        orders::a_heartbeat_says_which_order_is_the_newest,
        orders::a_call_that_is_dropped_loses_no_order,
        orders::an_order_that_stands_is_given_once,
        orders::only_the_newest_pins_stand,
        orders::an_order_to_drain_stands_until_its_node_retires,
        orders::beyond_the_bound_the_oldest_order_is_forgotten,
        orders::waiting_jobs_of_a_version_that_is_taken_down_are_settled_and_never_delivered,
        orders::a_job_of_a_version_that_was_taken_down_is_settled_when_it_is_submitted,
        orders::a_running_job_of_a_version_that_is_taken_down_is_its_nodes_to_end,
        orders::a_job_of_a_version_that_was_taken_down_is_not_tried_again,
        peeking::the_next_jobs_adapters_come_in_the_order_of_their_turn,
        peeking::a_node_sees_its_own_lane_and_those_that_nobody_minds,
        popular::what_is_asked_for_most_is_what_all_gateways_say_together,
        popular::what_a_gateway_says_no_more_is_forgotten,
        popular::a_gateway_names_so_many_and_no_more,
        stealing::a_live_nodes_lane_is_its_own_until_it_is_behind,
        stealing::a_lost_nodes_lane_is_everyones,
        stealing::a_retired_nodes_lane_is_everyones_at_once,
        stealing::a_busy_node_takes_from_a_lost_lane_by_turn,
        stealing::a_job_without_a_lane_goes_to_whoever_comes_first,
        stealing::live_lanes_are_listed_with_what_their_nodes_say,
        stealing::statistics_count_what_there_is,
    ]
}
