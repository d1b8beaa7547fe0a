use tokio::time::{Duration, Instant, sleep};
use trestle_core::{Message, Position};

use super::rig::{HOUR, IN, rig};

#[tokio::test(start_paused = true)]
async fn lanes_share_a_rate_evenly_and_exceed_it_never() {
    let mut rig = rig(3).rate(Some(1_000), None);
    for partition in 0..3 {
        rig.produce(partition, 10_000 * (u64::from(partition) + 1));
    }
    let (begin, bridge) = (Instant::now(), rig.start().await);
    while begin.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(50)).await;
        let delivered: Vec<_> = (0..3).map(|partition| rig.delivered(partition).len() as u128).collect();
        let (all, allowed) = (delivered.iter().sum::<u128>(), begin.elapsed().as_millis() + 200);
        assert!(all <= allowed, "{all} of {allowed} in {:?}", begin.elapsed());
        assert!(delivered.iter().all(|own| own.abs_diff(all / 3) <= 200), "not even: {delivered:?}");
    }
    let all: usize = (0..3).map(|partition| rig.delivered(partition).len()).sum();
    assert!(all > 19_500, "{all} in 20 s at 1,000 a second");
    rig.until("everything is delivered in a minute", || (0..3).all(|p| rig.committed(p) == rig.cluster.end(IN, p)))
        .await;
    assert_eq!(rig.delivered(0), (0..10_000).collect::<Vec<_>>());
    bridge.drain().await;
}

/// Longer than a group waits for a member that does not poll; what is read again would be delivered twice here.
#[tokio::test(start_paused = true)]
async fn a_slow_rate_keeps_the_group_and_bounds_what_is_held() {
    let mut rig = rig(1).rate(Some(10), None);
    let bridge = rig.start().await;
    rig.produce(0, 30_000);
    sleep(Duration::from_secs(5)).await;
    let held = rig.budget.used();
    assert!(held > 0 && held <= 16 << 20, "{held}");
    rig.during(HOUR / 2, "no more is held, and it goes on", || rig.budget.used() <= 16 << 20).await;
    let delivered = rig.delivered(0);
    assert!((18_000..=18_100).contains(&delivered.len()), "{} in half an hour and 5 s", delivered.len());
    assert_eq!(delivered, (0..delivered.len() as u64).collect::<Vec<_>>());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_a_seconds_bytes_is_delivered() {
    let rig = rig(1).rate(None, Some(2_000));
    for number in 0..6 {
        let value = format!("{number:010000}");
        let message = Message { value: Some(value.into()), ..Message::at(Position::Offset(0)) };
        rig.cluster.produce(IN, 0, message);
    }
    let (begin, bridge) = (Instant::now(), rig.start().await);
    rig.until("the first is delivered", || rig.delivered(0).len() == 1).await;
    assert!(begin.elapsed() < Duration::from_secs(1));
    rig.finish(0).await;
    // 10 kB each at 2 kB a second: five times 5 s lie between six.
    assert!((25..=27).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert_eq!(rig.delivered(0), (0..6).collect::<Vec<_>>());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_when_the_route_drains_is_read_again_once() {
    let mut rig = rig(2).rate(Some(1), None);
    rig.produce(0, 100);
    rig.produce(1, 100);
    let bridge = rig.start().await;
    rig.until("it has begun", || rig.delivered(0).len() + rig.delivered(1).len() >= 4).await;
    let begin = Instant::now();
    bridge.drain().await;
    assert!(begin.elapsed() <= Duration::from_secs(61), "a drain took {:?}", begin.elapsed());
    assert!(rig.delivered(0).len() < 100, "nothing waited");
    let rig = rig.rate(None, None);
    let bridge = rig.start().await;
    rig.finish_all().await;
    assert_eq!(rig.delivered(0), (0..100).collect::<Vec<_>>());
    assert_eq!(rig.delivered(1), (100..200).collect::<Vec<_>>());
    bridge.drain().await;
}
