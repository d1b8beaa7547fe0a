//! What a message that fails holds back, by the route's order.

use tokio::time::Duration;
use trestle_core::Why;
use trestle_memory::{Freeze, Poison};

use super::rig::{DEAD, HOUR, OUT, Rig, number, rig};
use crate::policy::order::Order;

/// Numbers 0 to 29 under the keys `a`, `b` and `c` in turn, of which number 3, an `a`, fails.
fn a_bad_one(order: Order, poison: Poison) -> Rig {
    let mut rig = rig(1).order(order);
    rig.cluster.poison(OUT, poison, |m| number(m) == 3);
    for key in (0..10).flat_map(|_| ["a", "b", "c"]) {
        rig.produce_keyed(key);
    }
    rig
}

fn of_a(number: &u64) -> bool {
    number.is_multiple_of(3)
}

fn without(number: u64) -> impl Fn(&u64) -> bool {
    move |n| *n != number
}

#[tokio::test(start_paused = true)]
async fn with_order_key_a_message_that_is_not_confirmed_holds_back_its_key_and_no_other() {
    let rig = a_bad_one(Order::Key, Poison::Timeout);
    let bridge = rig.start().await;
    rig.until("the other keys are delivered", || rig.delivered(0).iter().filter(|n| !of_a(n)).count() == 20).await;
    assert!(rig.dead().is_empty(), "while it is still tried");
    assert_eq!(rig.delivered(0).into_iter().filter(of_a).collect::<Vec<_>>(), [0], "what is behind it waits");
    rig.finish(0).await;
    assert_eq!(rig.dead(), [(3, "timeout".to_owned())]);
    for key in 0..3 {
        let delivered: Vec<_> = rig.delivered(0).into_iter().filter(|n| n % 3 == key).collect();
        assert_eq!(delivered, (0..30).filter(|n| n % 3 == key).filter(without(3)).collect::<Vec<_>>());
    }
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn with_order_none_a_message_that_is_not_confirmed_holds_back_nothing() {
    let mut rig = a_bad_one(Order::None, Poison::Timeout);
    let bridge = rig.start().await;
    rig.until("all others are delivered", || rig.delivered(0).len() == 29).await;
    rig.during(HOUR, "it is tried as long as nothing else is stored meanwhile", || rig.dead().is_empty()).await;
    rig.produce_keyed("a");
    rig.finish(0).await;
    assert_eq!(rig.dead(), [(3, "timeout".to_owned())]);
    assert_eq!(rig.delivered(0), (0..31).filter(without(3)).collect::<Vec<_>>());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_in_the_end_is_delivered_once_and_in_the_order_of_its_key() {
    let rig = a_bad_one(Order::Key, Poison::Timeout);
    let bridge = rig.start().await;
    rig.until("the other keys are delivered", || rig.delivered(0).len() == 21).await;
    rig.cluster.heal();
    rig.finish(0).await;
    assert!(rig.dead().is_empty());
    let of_key_a: Vec<_> = rig.delivered(0).into_iter().filter(of_a).collect();
    assert_eq!(of_key_a, (0..30).filter(of_a).collect::<Vec<_>>());
    assert_eq!(rig.delivered(0).len(), 30);
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn while_dead_letters_cannot_be_written_only_the_key_of_a_bad_message_waits() {
    for (order, delivered) in [(Order::Partition, 3), (Order::Key, 21), (Order::None, 29)] {
        let rig = a_bad_one(order, Poison::Message);
        rig.cluster.freeze(DEAD, 0, Freeze::Writes);
        let bridge = rig.start().await;
        rig.until("what need not wait is delivered", || rig.delivered(0).len() == delivered).await;
        rig.during(HOUR, "the rest waits, and is not acknowledged", || {
            rig.delivered(0).len() == delivered && rig.committed(0) == 3 && rig.dead().is_empty()
        })
        .await;
        rig.cluster.thaw(DEAD, 0);
        rig.finish(0).await;
        assert_eq!(rig.dead(), [(3, "refused".to_owned())], "{order:?}");
        let of_key_a: Vec<_> = rig.delivered(0).into_iter().filter(of_a).collect();
        assert_eq!(of_key_a, (0..30).filter(of_a).filter(without(3)).collect::<Vec<_>>(), "{order:?}");
        bridge.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_as_many_set_aside_as_may_be_the_lane_waits() {
    let mut rig = rig(1).order(Order::None).set_aside(2, 10_000);
    rig.cluster.poison(OUT, Poison::Message, |m| [3, 5, 8].contains(&number(m)));
    rig.cluster.down(DEAD, 0, Why::Down);
    let bridge = rig.start().await;
    rig.produce(0, 30);
    rig.until("it comes to the third", || rig.delivered(0).len() == 6).await;
    rig.during(HOUR, "it waits for it", || rig.delivered(0) == [0, 1, 2, 4, 6, 7]).await;
    rig.cluster.up(DEAD, 0);
    rig.finish(0).await;
    let mut dead: Vec<_> = rig.dead().into_iter().map(|(number, _)| number).collect();
    dead.sort_unstable();
    assert_eq!(dead, [3, 5, 8]);
    assert_eq!(rig.delivered(0), (0..30).filter(|n| ![3, 5, 8].contains(n)).collect::<Vec<_>>());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_target_partition_costs_the_others_nothing_until_its_source_has_read_as_far_ahead_as_it_may() {
    for (order, goes_on) in [(Order::Partition, false), (Order::Key, true), (Order::None, true)] {
        let mut rig = rig(1).by_key(4).order(order).set_aside(10, 500);
        let bridge = rig.start().await;
        rig.cluster.down(OUT, 2, Why::Down);
        let delivered = |rig: &Rig| [0, 1, 3].iter().map(|p| rig.delivered(*p).len()).sum::<usize>();
        let mut held = 0;
        for round in 0..20 {
            (0..10).for_each(|key| rig.produce_keyed(&format!("key-{key}")));
            // Long enough for a gate in front of a partition that keeps everything in order to give back what waits.
            tokio::time::sleep(Duration::from_secs(2)).await;
            held = (round + 1) * 10 - delivered(&rig);
        }
        // Of ten keys some are of the dead partition.
        assert_eq!(held < 100, goes_on, "{order:?}: {held} of 200 wait");
        if goes_on {
            (0..800).for_each(|n| rig.produce_keyed(&format!("key-{}", n % 10)));
            rig.until("it has read as far ahead as it may", || delivered(&rig) > 300).await;
            let before = delivered(&rig);
            rig.during(HOUR, "then it waits", || delivered(&rig) < 1000 - held && delivered(&rig) < before + 500).await;
        }
        rig.cluster.up(OUT, 2);
        rig.finish(0).await;
        assert!(rig.dead().is_empty());
        let all: Vec<_> = (0..4).flat_map(|partition| rig.delivered(partition)).collect();
        assert_eq!(all.len(), rig.cluster.end(super::rig::IN, 0) as usize, "{order:?}: each once");
        for partition in 0..4 {
            assert!(order == Order::None || rig.delivered(partition).is_sorted(), "{order:?}");
        }
        bridge.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_gives_way_when_memory_is_short() {
    const POOL: usize = 64 << 10;
    // Either the messages cannot be dead-lettered, or their partitions cannot be written.
    for dead_letters in [true, false] {
        let mut rig = rig(12).order(Order::Key).memory(POOL);
        if dead_letters {
            rig.cluster.down(DEAD, 0, Why::Down);
            rig.cluster.poison(OUT, Poison::Message, |_| true);
        } else {
            (0..11).for_each(|partition| rig.cluster.down(OUT, partition, Why::Down));
        }
        let bridge = rig.start().await;
        (0..11).for_each(|partition| rig.produce(partition, 1000));
        // Each may borrow an eighth; two eighths at least are left, so that no other is held up.
        rig.during(Duration::from_secs(60), "it fills up and is given back", || rig.budget.used() <= POOL).await;
        rig.during(HOUR, "others find room", || rig.budget.used() <= POOL / 8 * 6).await;
        rig.cluster.heal();
        rig.finish_all().await;
        assert!((0..11).all(|partition| rig.delivered(partition).is_sorted()));
        bridge.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_no_order_does_a_frozen_target_dead_letter_anything() {
    for (order, freeze) in
        [Order::Key, Order::None].into_iter().flat_map(|o| [(o, Freeze::Everything), (o, Freeze::Writes)])
    {
        let mut rig = rig(1).order(order);
        let bridge = rig.start().await;
        rig.cluster.freeze(OUT, 0, freeze);
        rig.produce(0, 1000);
        rig.during(HOUR, "nothing is dead-lettered", || rig.dead().is_empty()).await;
        rig.cluster.heal();
        rig.finish(0).await;
        assert!(rig.dead().is_empty());
        let mut delivered = rig.delivered(0);
        delivered.sort_unstable();
        delivered.dedup();
        assert_eq!(delivered, (0..1000).collect::<Vec<_>>());
        bridge.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_gives_back_what_waits_apart() {
    let rig = a_bad_one(Order::Key, Poison::Message);
    rig.cluster.down(DEAD, 0, Why::Down);
    let bridge = rig.start().await;
    rig.until("the other keys are delivered", || rig.delivered(0).len() == 21).await;
    bridge.drain().await;
    assert_eq!((rig.committed(0), rig.budget.used()), (3, 0));
    rig.cluster.heal();
    let bridge = rig.start().await;
    rig.finish(0).await;
    bridge.drain().await;
    // What had passed it comes again: the position could not be committed past it.
    assert!(rig.delivered(0).len() > 29);
}
