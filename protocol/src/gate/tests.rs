use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { total: 64, reserve: 8, small: 1, most: 64 };

fn fill(gate: &Gate<u8>, key: u8, now: Instant) -> Vec<Pass<u8>> {
    std::iter::from_fn(|| gate.enter(&key, 1, now).ok()).collect()
}

#[test]
fn one_holder_alone_may_have_all_but_the_reserve() {
    let (gate, now) = (Gate::new(RULES), Instant::now());
    let passes = fill(&gate, 1, now);
    assert_eq!(passes.len(), 56);
    let refusal = gate.enter(&1, 1, now).unwrap_err();
    assert_eq!((refusal.cause, refusal.held, refusal.used, refusal.total), (Cause::Full, 56, 56, 64));
    drop(passes);
    assert_eq!((gate.used(), gate.held(&1)), (0, 0));
}

#[test]
fn while_another_waits_nobody_takes_more_than_an_even_share() {
    let (gate, now) = (Gate::new(RULES), Instant::now());
    let mut greedy = fill(&gate, 1, now);
    let mut late = vec![gate.enter(&2, 1, now).unwrap()];
    assert_eq!(gate.enter(&2, 1, now).unwrap_err().cause, Cause::Full);
    // The one place that the second had of the reserve is made good first.
    greedy.pop();
    // What the first gives back goes to the second, until each has a half.
    for _ in 0..27 {
        greedy.pop();
        assert_eq!(gate.enter(&1, 1, now).unwrap_err().cause, Cause::Share);
        late.push(gate.enter(&2, 1, now).unwrap_or_else(|refusal| panic!("{refusal:?} at {}", gate.held(&2))));
        gate.enter(&2, 1, now).unwrap_err();
    }
    assert_eq!(gate.held(&2), 28);
    // Once nobody has asked for a while, the share binds no more.
    let later = now + PATIENCE + Duration::from_millis(1);
    drop(late);
    assert_eq!(greedy.len() + fill(&gate, 1, later).len(), 56);
}

#[test]
fn while_all_wait_each_has_its_part_by_weight() {
    let (gate, now) = (Gate::new(RULES), Instant::now());
    let weights = [(1, Weight::USUAL), (2, Weight::nearest(2)), (3, Weight::nearest(4))];
    let mut held: Vec<(u8, Pass<u8>)> = fill(&gate, 1, now).into_iter().map(|pass| (1, pass)).collect();
    for _ in 0..200 {
        // Each asks for all that it can get, and the first gives back what it has too much.
        for (key, weight) in weights {
            held.extend(gate.enter_with_weight(&key, 1, weight, now).ok().map(|pass| (key, pass)));
        }
        if gate.held(&1) > 8
            && let Some(place) = held.iter().position(|(key, _)| *key == 1)
        {
            held.swap_remove(place);
        }
    }
    assert_eq!([gate.held(&1), gate.held(&2), gate.held(&3)], [8, 16, 32], "of 56 in seven parts");
    assert_eq!(gate.enter_with_weight(&3, 1, Weight::MOST, now).unwrap_err().cause, Cause::Full);
}

#[test]
fn a_weight_is_a_whole_number_from_one_to_sixteen() {
    assert_eq!([0, 1, 7, 16, 17, u32::MAX].map(|number| Weight::nearest(number).number()), [1, 1, 7, 16, 16, 16]);
    assert_eq!(Weight::default(), Weight::USUAL);
}

#[test]
fn who_holds_least_for_its_weight_is_first_in_line() {
    let mut line = Line::default();
    let terms = |weight| Terms { amount: 1, weight, most: u64::MAX };
    line.push(&"heavy", terms(Weight::nearest(4)), ());
    line.push(&"light", terms(Weight::USUAL), ());
    let first = |of_heavy, of_light| {
        let held = |key: &&str| if *key == "heavy" { of_heavy } else { of_light };
        line.in_order(held).swap_remove(0).key
    };
    assert_eq!([first(7, 2), first(8, 2), first(9, 2), first(9, 3)], ["heavy", "heavy", "light", "heavy"]);
}

#[test]
fn one_that_is_refused_all_the_time_hides_nobody_who_waits() {
    let (gate, now) = (Gate::new(RULES), Instant::now());
    let mut greedy = fill(&gate, 1, now);
    for _ in 0..2 * MAX_WAITING {
        gate.enter(&1, 1, now).unwrap_err();
    }
    gate.enter(&2, 2, now).unwrap_err();
    greedy.truncate(40);
    assert_eq!(gate.enter(&1, 1, now).unwrap_err().cause, Cause::Share);
    // A refusal is remembered from its last time on.
    let later = now + PATIENCE;
    gate.enter(&2, 40, later).unwrap_err();
    assert_eq!(gate.enter(&1, 1, later + PATIENCE).unwrap_err().cause, Cause::Share);
}

#[test]
fn a_pass_grows_within_the_share_and_gives_all_of_it_back() {
    let (gate, now) = (Gate::new(Rules { most: 10, ..RULES }), Instant::now());
    let mut pass = gate.enter(&1, 4, now).unwrap();
    pass.grow(6, now).unwrap();
    let refusal = pass.grow(1, now).unwrap_err();
    assert_eq!((refusal.cause, refusal.share), (Cause::Share, 10));
    assert_eq!(refusal.to_string(), "you hold 10 of at most 10 and asked for 1");
    assert_eq!(pass.amount(), 10);
    drop(pass);
    assert_eq!(gate.used(), 0);
}

/// As many compilers as a small machine has: one of the two is kept for whoever holds none.
const TWO: Rules = Rules { total: 2, reserve: 1, small: 1, most: 2 };
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_turn_and_the_reserve_is_for_those_who_have_nothing() {
    let gate = Gate::new(TWO);
    let first = gate.wait(&1, 1, LONG).await.unwrap();
    let second = gate.wait(&1, 1, LONG);
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut second).await.is_err(), "its second waits");
    let other = gate.wait(&2, 1, LONG).await.unwrap();
    let third = gate.wait(&3, 1, LONG);
    tokio::pin!(third);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut third).await.is_err(), "all is taken");
    assert_eq!(gate.num_waiting(), 2);
    drop(other);
    // It came later, and holds less.
    let third = third.await.unwrap();
    drop(first);
    let second = second.await.unwrap();
    assert_eq!((gate.used(), gate.held(&1), gate.num_waiting()), (2, 1, 0));
    drop((second, third));
    assert_eq!(gate.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_wait_has_an_end_and_who_leaves_the_line_is_not_served() {
    let gate = Gate::new(TWO);
    let passes = [gate.wait(&1, 1, LONG).await.unwrap(), gate.wait(&2, 1, LONG).await.unwrap()];
    let refusal = gate.wait(&3, 1, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!((refusal.cause, refusal.used, refusal.asked), (Cause::Full, 2, 1));
    assert_eq!(gate.num_waiting(), 0);
    let stays = gate.wait(&4, 1, LONG);
    tokio::pin!(stays);
    tokio::select! {
        biased;
        _ = gate.wait(&3, 1, LONG) => panic!("nothing was given back"),
        _ = &mut stays => panic!("nothing was given back"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    assert_eq!(gate.num_waiting(), 1);
    drop(passes);
    stays.await.unwrap();
    assert_eq!((gate.used(), gate.num_waiting()), (0, 0));
    let refusal = gate.wait(&1, 3, LONG).await.unwrap_err();
    assert_eq!((refusal.asked, refusal.share), (3, 1), "it could never have as much");
}

#[tokio::test(start_paused = true)]
async fn one_with_terms_of_its_own_waits_for_itself_and_holds_up_nobody() {
    let (gate, now) = (Gate::new(RULES), std::time::Instant::now());
    let terms = Terms { amount: 1, weight: Weight::USUAL, most: 1 };
    let first = gate.enter_on(&1, terms, now).unwrap();
    let refusal = gate.enter_on(&1, terms, now).unwrap_err();
    assert_eq!((refusal.cause, refusal.held, refusal.share), (Cause::Share, 1, 1));
    let second = gate.wait_on(&1, terms, LONG);
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut second).await.is_err(), "its second waits for its first");
    drop(gate.wait(&2, 1, LONG).await.unwrap());
    drop(first);
    drop(second.await.unwrap());
    let refusal = gate.wait_on(&1, Terms { amount: 2, ..terms }, LONG).await.unwrap_err();
    assert_eq!((refusal.asked, refusal.share), (2, 1), "it could never have as much");
}

proptest! {
    /// Whoever stands in line for something small is served although others ask for ever, within a turn of each that
    /// holds something. A step: who asks, for how much, and who gives something back.
    #[test]
    fn whoever_stands_in_line_is_served(
        steps in prop::collection::vec((0u8..5, 1u64..4, 0u8..5), 1..60),
        total in 4u64..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let gate = Gate::new(Rules { total, reserve: 1, small: 1, most: total });
            let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
            let mut held: Vec<(u8, Pass<u8>)> = Vec::new();
            let ask = |who: u8, amount: u64| {
                let (gate, sender) = (gate.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(pass) = gate.wait(&who, amount, LONG).await {
                        let _ = sender.send((who, pass));
                    }
                })
            };
            for (who, amount, back) in steps {
                ask(who, amount);
                tokio::time::sleep(Duration::from_millis(1)).await;
                held.extend(std::iter::from_fn(|| served.try_recv().ok()));
                if let Some(index) = held.iter().position(|(holder, _)| *holder == back) {
                    held.swap_remove(index);
                }
                assert!(gate.used() <= total);
            }
            ask(99, 1);
            // One thing after the other is given back; new requests come all the time.
            for turn in 0_u8.. {
                tokio::time::sleep(Duration::from_millis(1)).await;
                held.extend(std::iter::from_fn(|| served.try_recv().ok()));
                if held.iter().any(|(holder, _)| *holder == 99) {
                    break;
                }
                assert!(u64::from(turn) <= total + 1, "{held:?}");
                ask(turn % 5, 2);
                held.remove(0);
            }
        });
    }

    /// While all wait nobody gets more than its part by weight, and each gets all of it. A step: who asks for how much.
    #[test]
    fn parts_are_proportional_to_weights_while_all_wait(
        weights in prop::collection::vec(1u32..=16, 2..6),
        steps in prop::collection::vec((0usize..6, 1u64..9), 0..100),
        total in 100u64..400,
    ) {
        let rules = Rules { total, reserve: total / 8, small: 1, most: total };
        let (gate, now) = (Gate::new(rules), Instant::now());
        let weights: Vec<_> = weights.into_iter().map(Weight::nearest).collect();
        let sum: u64 = weights.iter().map(|weight| weight.number()).sum();
        // Whoever asks for all that it could have, and may not, waits.
        let all_wait = |gate: &Gate<usize>| {
            for (key, weight) in weights.iter().enumerate() {
                let rest = rules.room(total) - gate.held(&key);
                gate.enter_with_weight(&key, rest, *weight, now).unwrap_err();
            }
        };
        let full = gate.enter(&99, rules.room(total), now).unwrap();
        all_wait(&gate);
        drop(full);
        let mut passes = Vec::new();
        // At the end each asks for one after the other.
        let single = (0..total).flat_map(|_| 0..weights.len()).map(|key| (key, 1));
        for (key, amount) in steps.into_iter().chain(single) {
            let key = key % weights.len();
            let held = gate.held(&key) + amount;
            let part = rules.room(held) * weights[key].number() / sum;
            match gate.enter_with_weight(&key, amount, weights[key], now) {
                Ok(pass) => {
                    prop_assert!(held <= part, "{} of {}", held, part);
                    passes.push(pass);
                    all_wait(&gate);
                }
                Err(refusal) => {
                    prop_assert!(held > part, "{:?}", refusal);
                    prop_assert_eq!((refusal.share, refusal.cause), (part, Cause::Share));
                }
            }
        }
        for (key, weight) in weights.iter().enumerate() {
            prop_assert_eq!(gate.held(&key), rules.room(total) * weight.number() / sum);
        }
    }

    /// A step: who with which weight, how much, whether it gives back instead, and milliseconds until then.
    #[test]
    fn a_newcomers_small_request_is_let_in_whatever_others_do(
        steps in prop::collection::vec((0u8..7, 1u32..=16, 1u64..20, any::<bool>(), 0u64..5000), 1..200),
        total in 16u64..200,
    ) {
        // Seven greedy holders of one each in the reserve leave room for an eighth.
        let gate = Gate::new(Rules { total, reserve: 8, small: 1, most: total });
        let mut now = Instant::now();
        let mut passes: Vec<(u8, Pass<u8>)> = Vec::new();
        for (who, weight, amount, gives_back, wait) in steps {
            now += Duration::from_millis(wait);
            if gives_back {
                if let Some(index) = passes.iter().position(|(holder, _)| *holder == who) {
                    passes.swap_remove(index);
                }
            } else {
                // As much as it can get, the way a flood asks.
                for amount in [amount, 1] {
                    let entered = gate.enter_with_weight(&who, amount, Weight::nearest(weight), now);
                    passes.extend(entered.ok().map(|pass| (who, pass)));
                }
            }
            let sum: u64 = passes.iter().map(|(_, pass)| pass.amount()).sum();
            prop_assert_eq!(gate.used(), sum);
            prop_assert!(sum <= total);
            let newcomer = gate.enter(&99, 1, now);
            prop_assert!(newcomer.is_ok(), "{:?}", newcomer);
        }
        drop(passes);
        prop_assert_eq!(gate.used(), 0);
    }
}

#[test]
fn what_comes_back_is_let_in_however_full_it_is_and_counts() {
    let (gate, now) = (Gate::new(RULES), Instant::now());
    let passes = fill(&gate, 1, now);
    let back = gate.enter_again(&1, 10);
    assert_eq!((gate.used(), gate.held(&1), back.amount()), (66, 66, 10));
    assert_eq!(gate.enter(&2, 1, now).unwrap_err().cause, Cause::Full, "the reserve is taken by it");
    drop((passes, back));
    assert_eq!((gate.used(), gate.held(&1)), (0, 0));
}
