use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use redis::IntoConnectionInfo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::cache::entry::tests::entry;

/// Copies, and the far end of the connection on which Redis tells of them.
fn near() -> (Near, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("it does not block");
    let near = Near::new(1 << 20);
    let watch = Watch::over(ours.into(), Instant::now(), Vec::new());
    *near.watching.lock() = Watching::On(watch);
    (near, theirs)
}

fn fresh(name: &str) -> Entry {
    let mut entry = entry(name, "because");
    entry.facts.stored = now();
    entry
}

/// No generation was ever raised.
const GENERATION: &[u8] = b"*3\r\n$-1\r\n_\r\n$1\r\n0\r\n";

/// What Redis says to who asks for `entry`.
fn answer(entry: &Entry) -> Vec<u8> {
    let bytes = entry.encode();
    let length = format!("${}\r\n", bytes.len());
    [GENERATION, length.as_bytes(), &bytes, b"\r\n"].concat()
}

fn changed(name: &str) -> Vec<u8> {
    format!(">2\r\n+invalidate\r\n*1\r\n${}\r\n{name}\r\n", name.len()).into_bytes()
}

fn want(near: &Near, entry: &Entry) {
    near.want(entry, entry.encode().len());
}

/// What was asked for, so far.
fn asked(theirs: &mut UnixStream) -> String {
    let mut bytes = [0; 4096];
    let length = theirs.read(&mut bytes).expect("a command");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

fn tell(theirs: &mut UnixStream, bytes: &[u8]) {
    theirs.write_all(bytes).expect("it is told");
}

#[tokio::test]
async fn a_copy_is_given_until_its_answer_changes() {
    let (near, mut theirs) = near();
    let entry = fresh("a");
    let name = super::super::name(&entry.key);
    assert!(near.get(&entry.key).is_none());
    want(&near, &entry);
    want(&near, &entry);
    let asked = asked(&mut theirs);
    assert_eq!((asked.matches("HMGET").count(), asked.matches(&name).count()), (1, 1), "{asked}");
    assert!(near.get(&entry.key).is_none());
    let answer = answer(&entry);
    let (first, rest) = answer.split_at(answer.len() / 2);
    tell(&mut theirs, first);
    assert!(near.get(&entry.key).is_none());
    tell(&mut theirs, rest);
    assert_eq!(near.get(&entry.key).expect("a copy").facts, entry.facts);
    tell(&mut theirs, &changed("sluicegate:cache:1:garbage-of-another"));
    assert!(near.get(&entry.key).is_none(), "what is not understood may be anything");
    for change in
        [changed(&name), changed(super::super::GENERATIONS), b">2\r\n+invalidate\r\n_\r\n".into()]
    {
        want(&near, &entry);
        tell(&mut theirs, &answer);
        assert!(near.get(&entry.key).is_some());
        tell(&mut theirs, &changed(&super::super::name(&fresh("b").key)));
        assert!(near.get(&entry.key).is_some(), "another's change is none");
        tell(&mut theirs, &change);
        assert!(near.get(&entry.key).is_none(), "{}", change.escape_ascii());
    }
}

#[tokio::test]
async fn what_is_dropped_here_does_not_come_back_with_an_answer_on_its_way() {
    for dropped in [Near::clear, |near: &Near| near.forget(&fresh("a").key)] {
        let (near, mut theirs) = near();
        let (entry, other) = (fresh("a"), fresh("b"));
        want(&near, &entry);
        want(&near, &other);
        dropped(&near);
        tell(&mut theirs, &answer(&entry));
        tell(&mut theirs, b"*3\r\n_\r\n_\r\n_\r\n_\r\n");
        assert!(near.get(&entry.key).is_none());
        want(&near, &entry);
        tell(&mut theirs, &answer(&entry));
        assert!(near.get(&entry.key).is_some());
        dropped(&near);
        assert!(near.get(&entry.key).is_none());
    }
}

#[tokio::test]
async fn a_change_between_a_generation_and_its_answer_makes_it_no_copy() {
    for change in [changed(super::super::GENERATIONS), b">2\r\n+invalidate\r\n_\r\n".into()] {
        let (near, mut theirs) = near();
        let entry = fresh("a");
        want(&near, &entry);
        tell(&mut theirs, GENERATION);
        tell(&mut theirs, &change);
        tell(&mut theirs, &answer(&entry)[GENERATION.len()..]);
        assert!(near.get(&entry.key).is_none(), "{}", change.escape_ascii());
    }
}

/// Takes connections as a Redis does that tells of changes.
async fn greeter() -> (ConnectionInfo, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    (format!("redis://{address}").into_connection_info().expect("an address"), listener)
}

#[tokio::test]
async fn copies_are_made_anew_over_a_new_connection_from_time_to_time() {
    let (near, mut theirs) = near();
    let (to, listener) = greeter().await;
    let entry = fresh("a");
    want(&near, &entry);
    tell(&mut theirs, &answer(&entry));
    near.keep(&to).await;
    assert!(near.get(&entry.key).is_some());
    if let Watching::On(watch) = &mut *near.watching.lock() {
        watch.opened -= RENEW;
    }
    let greeted = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"%1\r\n+proto\r\n:3\r\n+OK\r\n").await.expect("greets");
        stream
    };
    let ((), mut stream) = tokio::join!(near.keep(&to), greeted);
    assert!(near.get(&entry.key).is_none());
    want(&near, &entry);
    stream.write_all(&answer(&entry)).await.expect("told");
    timeout(Duration::from_secs(5), async {
        while near.get(&entry.key).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("a copy");
}

#[tokio::test]
async fn a_large_answer_is_no_copy() {
    let (near, mut theirs) = near();
    let entry = fresh("a");
    near.want(&entry, MAX_BYTES + 1);
    want(&near, &fresh("b"));
    assert!(!asked(&mut theirs).contains(&super::super::name(&entry.key)));
}

#[tokio::test]
async fn an_answer_of_another_generation_is_no_copy() {
    let (near, mut theirs) = near();
    let mut old = fresh("a");
    old.facts.generation = [0, 1, 0];
    want(&near, &old);
    tell(&mut theirs, &answer(&old));
    assert!(near.get(&old.key).is_none());
    assert!(near.copies.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_redis_that_tells_nothing_is_not_relied_on() {
    let (near, mut theirs) = near();
    let to = "redis://127.0.0.1:1".into_connection_info().expect("an address");
    let entry = fresh("a");
    want(&near, &entry);
    tell(&mut theirs, &answer(&entry));
    assert!(near.get(&entry.key).is_some());
    for _ in 0..5 {
        tokio::time::advance(Duration::from_millis(900)).await;
        near.keep(&to).await;
        tell(&mut theirs, b"+PONG\r\n");
        assert!(near.get(&entry.key).is_some());
    }
    tokio::time::advance(Duration::from_millis(1_100)).await;
    assert!(near.get(&entry.key).is_none());
    near.keep(&to).await;
    assert!(near.get(&entry.key).is_none(), "asked, and not answered yet");
    tell(&mut theirs, b"+PONG\r\n");
    assert!(near.get(&entry.key).is_some(), "it was only late");
    near.keep(&to).await;
    tokio::time::advance(Duration::from_millis(1_100)).await;
    near.keep(&to).await;
    assert!(near.copies.is_empty(), "it is given up");
    assert!(matches!(&*near.watching.lock(), Watching::Off(..)));
}

#[tokio::test]
async fn with_its_connection_all_copies_go() {
    for trouble in [Some(&b"garbage"[..]), Some(b"+unasked\r\n"), None] {
        let (near, mut theirs) = near();
        let entry = fresh("a");
        want(&near, &entry);
        tell(&mut theirs, &answer(&entry));
        assert!(near.get(&entry.key).is_some());
        match trouble {
            Some(bytes) => tell(&mut theirs, &[bytes, b"\r\n"].concat()),
            None => drop(theirs),
        }
        assert!(near.get(&entry.key).is_none());
        assert!(near.copies.is_empty());
        want(&near, &entry);
        assert!(near.get(&entry.key).is_none());
    }
}

#[tokio::test]
async fn a_redis_that_does_not_read_is_not_waited_for() {
    let (near, mut theirs) = near();
    let entries: Vec<Entry> = (0..2_000).map(|n| fresh(&n.to_string())).collect();
    entries.iter().for_each(|entry| want(&near, entry));
    let wanted = &entries[0];
    let first = asked(&mut theirs);
    assert!(first.contains(&super::super::name(&wanted.key)));
    tell(&mut theirs, &answer(wanted));
    assert!(near.get(&wanted.key).is_some());
}
