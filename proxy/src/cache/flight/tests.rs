use super::*;

fn key() -> Key {
    Key::new(&[1; 32], None)
}

const STREAM: Shape = Shape::Stream { usage: false };

fn leader(flights: &Arc<Flights<&'static str>>) -> Leader<&'static str> {
    match flights.join(key(), STREAM) {
        Role::Leader(leader) => leader,
        other => panic!("{other:?}"),
    }
}

fn follower(flights: &Arc<Flights<&'static str>>) -> Follower<&'static str> {
    match flights.join(key(), STREAM) {
        Role::Follower(follower) => follower,
        other => panic!("{other:?}"),
    }
}

fn part(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn a_follower_gets_what_came_and_then_follows() {
    let flights = Arc::default();
    let mut leader = leader(&flights);
    leader.begun("host");
    leader.push(part("a"));
    leader.push(part("b"));
    let mut late = follower(&flights);
    assert_eq!(late.origin(), Some("host"));
    assert!(matches!(late.next().await, News::Parts(parts) if parts == ["a", "b"]));
    let waiting = tokio::spawn(async move {
        let next = late.next().await;
        (next, late.end().await)
    });
    tokio::task::yield_now().await;
    leader.push(part("c"));
    tokio::task::yield_now().await;
    assert_eq!(leader.so_far(), "abc");
    leader.end(End::Whole { body: None, entry: None });
    let (next, end) = waiting.await.expect("followed");
    assert!(matches!(next, News::Parts(parts) if parts == ["c"]));
    assert!(matches!(end, End::Whole { .. }));
    assert!(flights.is_empty());
    assert_eq!(flights.held.load(Ordering::Acquire), 0);
}

#[tokio::test]
async fn a_leader_that_is_gone_leaves_its_place_to_another() {
    let flights = Arc::default();
    let first = leader(&flights);
    let mut follower = follower(&flights);
    drop(first);
    assert!(matches!(follower.next().await, News::End(End::Nothing)));
    leader(&flights);
}

#[tokio::test]
async fn a_leader_knows_whether_anybody_follows() {
    let flights = Arc::default();
    let leader = leader(&flights);
    leader.abandoned().await;
    let follower = follower(&flights);
    leader.followed().await;
    let waited = tokio::spawn(async move { leader.abandoned().await });
    tokio::task::yield_now().await;
    assert!(!waited.is_finished());
    drop(follower);
    waited.await.expect("abandoned");
}

#[tokio::test]
async fn an_answer_without_bounds_is_held_only_for_those_who_follow() {
    let flights = Arc::default();
    let large = Bytes::from(vec![b'x'; MAX_HELD / 2]);
    let mut lonely = leader(&flights);
    for _ in 0..3 {
        assert!(lonely.is_open());
        lonely.push(large.clone());
    }
    assert!(!lonely.is_open());
    let mut leader = leader(&flights);
    let mut follower = follower(&flights);
    for _ in 0..3 {
        leader.push(large.clone());
    }
    assert!(leader.is_open());
    // Whoever comes now asks for itself.
    assert!(matches!(flights.join(key(), STREAM), Role::Leader(_)));
    assert!(matches!(follower.next().await, News::Parts(parts) if parts.len() == 3));
    while leader.is_open() {
        leader.push(large.clone());
    }
    assert!(matches!(follower.end().await, End::Nothing));
    drop((lonely, leader));
    assert_eq!(flights.held.load(Ordering::Acquire), 0);
}

#[tokio::test]
async fn a_solo_flight_is_nobody_elses() {
    let flights: Arc<Flights<&'static str>> = Arc::default();
    let solo = flights.solo(key(), STREAM);
    let leader = leader(&flights);
    drop(solo);
    assert_eq!(flights.len(), 1);
    drop(leader);
}
