//! Tests of what waits for a client, and of who writes it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::msg;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn echo(val: i64) -> msg::echo::Res {
    msg::echo::Res { val: Some(val), ct: None }
}

fn written(outbox: &Outbox) -> Vec<String> {
    let mut bytes = Vec::new();
    outbox.take(&mut bytes, 0);
    let (mut rest, mut seen) = (&bytes[..], Vec::new());
    while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) {
        seen.push(format!("{} {:?}", frame.api, frame.payload));
        rest = &rest[frame.bytes.len()..];
    }
    seen
}

fn deliver(outbox: &Outbox, mark: Mark, val: i64) {
    let mut batch = Batch::default();
    batch.push_message(mark, &echo(val)).expect("fits");
    outbox.deliver(batch.frames());
}

#[tokio::test]
async fn what_is_pushed_during_sign_in_comes_after_its_answer() {
    let outbox = Outbox::new(1 << 20, 0);
    outbox.hold();
    deliver(&outbox, Mark::Plain, 1);
    outbox.open(&echo(0));
    let seen = written(&outbox);
    assert!(seen[0].ends_with("[8, 0]") && seen[1].ends_with("[8, 1]"), "{seen:?}");
}

#[test]
fn what_it_holds_is_never_shown() {
    let outbox = Outbox::new(1 << 20, 0);
    let token = "a-token-that-nobody-may-see";
    let said = msg::kick::Res { code: 0, reason: token.to_owned() };
    let mut batch = Batch::default();
    batch.push_message(Mark::Plain, &said).expect("fits");
    outbox.deliver(batch.frames());
    outbox.give_back(batch.frames());
    let shown = format!("{outbox:?} {batch:?} {:?}", outbox.lock().moving);
    let bytes = format!("{:?}", token.as_bytes());
    assert!(!shown.contains(token) && !shown.contains(bytes.trim_matches(['[', ']'])));
}

#[tokio::test]
async fn a_client_that_asked_much_once_keeps_no_room_for_it() {
    let (outbox, soon) = (Outbox::new(1 << 20, 0), Instant::now());
    for _ in 0..1000 {
        outbox.await_answers(1, soon);
    }
    for n in 0..1000 {
        deliver(&outbox, Mark::Answer, n);
    }
    assert_eq!(outbox.depth().1, 0);
    assert!(outbox.lock().awaited.capacity() <= 64, "{}", outbox.lock().awaited.capacity());
}

#[tokio::test]
async fn beside_the_stream_the_oldest_is_dropped_and_counted() {
    let outbox = Outbox::new(1 << 20, 0);
    for _ in 0..2 {
        let said = 0..10_000;
        for val in said.clone() {
            deliver(&outbox, Mark::Loose, val);
        }
        let (bytes, dropped) = outbox.take_loose();
        assert!(bytes.len() <= LOOSE_BYTES_MAX && bytes.len() > LOOSE_BYTES_MAX - 100);
        let (mut rest, mut next) = (&bytes[..], dropped as i64);
        while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) {
            let echo = <msg::echo::Res as prost::Message>::decode(frame.payload);
            assert_eq!(echo.expect("whole").val, Some(next));
            (rest, next) = (&rest[frame.bytes.len()..], next + 1);
        }
        assert_eq!(next, said.end, "the latest are there, each once");
    }
    assert_eq!(outbox.depth(), (0, 0));
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).await;
    (near.expect("connected"), listener.accept().await.expect("accepted").0)
}

#[tokio::test]
async fn what_waits_for_nothing_is_written_at_once_and_wakes_nobody() {
    let (mut client, near) = sockets().await;
    let (_near, socket) = near.into_split();
    let mut outbox = Outbox::new(1 << 20, 0);
    outbox.write_through(socket, Counter::noop());
    let woken = Arc::new(Woken::default());
    outbox.register(&woken.clone().into());
    let mut answer = Batch::default();
    answer.push_message(Mark::Answer, &echo(7)).expect("fits");
    outbox.deliver(answer.frames());
    let mut read = vec![0; answer.bytes_len() - MARK_BYTES];
    client.read_exact(&mut read).await.expect("written");
    assert_eq!(read, answer.frames().bytes()[MARK_BYTES..]);
    assert_eq!((woken.count(), outbox.depth().0), (0, 0));
    // Not when the connection reads nothing before an answer has come, nor after its end.
    outbox.watch(true);
    outbox.deliver(answer.frames());
    assert_eq!(woken.count(), 1);
    client.read_exact(&mut read).await.expect("written");
    outbox.write_no_more();
    deliver(&outbox, Mark::Answer, 8);
    assert_eq!(written(&outbox).len(), 1);
}

#[tokio::test]
async fn whoever_writes_a_client_that_reads_slowly_gets_every_byte_in_order() {
    let (mut client, near) = sockets().await;
    socket2::SockRef::from(&near).set_send_buffer_size(16 * 1024).expect("open");
    socket2::SockRef::from(&client).set_recv_buffer_size(16 * 1024).expect("open");
    let (near, socket) = near.into_split();
    let mut outbox = Outbox::new(1 << 30, 0);
    outbox.write_through(socket, Counter::noop());
    let reads = async move {
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.map(|_| read)
    };
    let writes = async {
        let (mut expected, mut writing, mut halves) = (Vec::new(), Vec::new(), 0);
        for n in 0..2000u32 {
            let reason = n.to_string().repeat(1 + n as usize % 997);
            let mut batch = Batch::default();
            batch.push_message(Mark::Plain, &msg::kick::Res { code: 0, reason }).expect("fits");
            expected.extend_from_slice(&batch.frames().bytes()[MARK_BYTES..]);
            outbox.deliver(batch.frames());
            if n % 50 == 49 {
                // What the connection does when it is woken.
                let mut at = outbox.take(&mut writing, 0).written;
                halves += usize::from(at > 0);
                let stream: &TcpStream = near.as_ref();
                while at < writing.len() {
                    stream.writable().await.expect("open");
                    at += stream.try_write(&writing[at..]).unwrap_or(0);
                }
                outbox.take(&mut writing, 0);
                assert!(writing.is_empty(), "nobody spoke meanwhile");
            }
        }
        assert!(halves > 0, "the socket has taken everything at once");
        outbox.write_no_more();
        let stream: &TcpStream = near.as_ref();
        socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write).expect("open");
        expected
    };
    let (read, expected) = tokio::join!(reads, writes);
    assert!(read.expect("read") == expected);
}

#[tokio::test]
async fn what_the_gate_says_itself_counts_as_unread_too() {
    let outbox = Outbox::new(1000, 0);
    for n in 0..1000 {
        outbox.say(&echo(n));
    }
    let taken = outbox.take(&mut Vec::new(), 5);
    assert_eq!(taken.kicked.map(|k| k.code), Some(Code::TOO_SLOW));
}

#[tokio::test]
async fn more_unread_bytes_than_the_limit_kick_the_client_and_are_not_kept() {
    let outbox = Outbox::new(1000, 0);
    for n in 0..1000 {
        deliver(&outbox, Mark::Plain, n);
    }
    let taken = outbox.take(&mut Vec::new(), 0);
    assert_eq!(taken.kicked.map(|k| k.code), Some(Code::TOO_SLOW));
    assert!(outbox.depth().0 < 1100, "{:?}", outbox.depth());
}

#[tokio::test]
async fn a_client_that_is_back_hears_what_it_missed_however_much_its_gate_kept_before() {
    let outbox = Outbox::new(1000, 10_000);
    outbox.hold();
    (0..500).for_each(|n| deliver(&outbox, Mark::Plain, n));
    outbox.open(&echo(-1));
    let mut writing = Vec::new();
    let taken = outbox.take(&mut writing, 0);
    assert_eq!(taken.kicked, None);
    assert!(writing.len() > 5000, "{}", writing.len());
    outbox.take(&mut Vec::new(), 0);
    (0..500).for_each(|n| deliver(&outbox, Mark::Plain, n));
    let taken = outbox.take(&mut writing, 0);
    assert_eq!(taken.kicked.map(|k| k.code), Some(Code::TOO_SLOW), "that is behind it");
}

proptest! {
    #[test]
    fn the_oldest_deadline_is_that_of_the_oldest_request_without_an_answer(
        wakes in prop::collection::vec(1usize..6, 1..20), mut answers in 0usize..120,
    ) {
        let rt = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _guard = rt.enter();
        let (outbox, began) = (Outbox::new(1 << 20, 0), Instant::now());
        let deadline = |n: usize| began + std::time::Duration::from_secs(n as u64);
        let mut asked = Vec::new();
        for (n, count) in wakes.into_iter().enumerate() {
            outbox.await_answers(count, deadline(n));
            asked.extend(std::iter::repeat_n(deadline(n), count));
        }
        answers = answers.min(asked.len());
        for n in 0..answers {
            deliver(&outbox, Mark::Answer, n as i64);
            deliver(&outbox, Mark::Plain, n as i64);
        }
        let taken = outbox.take(&mut Vec::new(), 0);
        prop_assert_eq!(taken.in_flight, asked.len() - answers);
        prop_assert_eq!(taken.oldest_deadline, asked.get(answers).copied());
    }
}
