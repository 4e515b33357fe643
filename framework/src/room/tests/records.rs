//! What a room leaves behind: what it comes back from, and recordings.

use super::{
    super::{
        context::Setting,
        core::{Core, Input},
        record::{Recorder, summed},
    },
    *,
};

use crate::proto::link::RecordedRoom;

const EVERY: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn a_room_that_is_kept_comes_back_with_its_members_who_take_their_seats_again() {
    let store = Store::memory();
    let mut server = Server::new(&store, None);
    let room = server.open(hall().ticks(20).snapshots(EVERY));
    let (one, two) = (Guest::joined(1, &room).await, Guest::joined(2, &room).await);
    one.leave();
    sleep(EVERY).await;
    two.tell(Mail::Stop);
    rest().await;
    assert_eq!(two.kicks().len(), 1);
    assert_eq!(two.kicks()[0].0, Code::NOT_CONNECTED, "its player looks for the room again");

    server.epoch = 2;
    let saved = server.kept(2).await;
    let room = server.try_open(hall().ticks(20).snapshots(EVERY), &[], saved).expect("it is back");
    let again = Guest::new(2, 22, &room);
    assert_eq!(again.attach(false).await.expect("its seat").state, b"2 of 1");
    let three = Guest::new(3, 3, &room);
    assert_eq!(three.attach(true).await.expect("a seat").state, b"3 of 2", "no seat is used twice");
    assert_eq!(Guest::new(1, 9, &room).attach(false).await.unwrap_err().code, Code::NOT_IN_ROOM);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_to_a_room_that_came_back_loses_its_seat() {
    let server = Server::alone();
    let kind = || hall().snapshots(EVERY);
    let room = server.open(kind());
    let (one, _two) = (Guest::joined(1, &room).await, Guest::joined(2, &room).await);
    one.tell(Mail::Stop);
    rest().await;
    let saved = server.kept(1).await;
    let room = server.try_open(kind(), &[], saved).expect("it is back");
    let one = Guest::new(1, 11, &room);
    one.attach(false).await.expect("its seat");
    sleep(server.host.sessions().resume_window + EVERY).await;
    assert_eq!(one.heard(), [Heard::News(news::BACK, 1), Heard::News(news::LEFT, 2)]);
    let garbage = server.try_open(kind(), &[], Some(vec![0xff]));
    assert_eq!(garbage.unwrap_err().code, Code::INTERNAL);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_another_node_runs_stops_and_what_it_writes_is_refused() {
    let server = Server::alone();
    let room = server.open(hall().ticks(20).snapshots(EVERY));
    let guest = Guest::joined(1, &room).await;
    sleep(EVERY * 2).await;
    let taken = server.kept(2).await.expect("another one has it");
    sleep(EVERY * 2).await;
    assert_eq!(guest.kicks()[0].0, Code::NOT_CONNECTED);
    assert_eq!(server.meter("room_running"), 0);
    assert_eq!(server.kept(2).await, Some(taken));
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_not_kept_is_closed_when_its_server_goes_away() {
    let server = Server::alone();
    let guest = Guest::joined(1, &server.open(hall())).await;
    guest.tell(Mail::Stop);
    rest().await;
    assert_eq!(guest.kicks(), [(Code::ROOM_CLOSED, "its server went away".to_owned())]);
    assert_eq!(server.meter("room_running"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_match_is_recorded_to_a_file_and_comes_out_the_same_when_it_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&Store::memory(), Some(folder.path()));
    let kind = || hall().ticks(20).recorded();
    let room = server.open(kind());
    let (one, two) = (Guest::joined(1, &room).await, Guest::joined(2, &room).await);
    for val in [1, ask::DRAW, ask::PANIC, ask::REFUSE] {
        one.ask(val);
        sleep(Duration::from_millis(130)).await;
    }
    two.tell(Mail::Detach(two.connection));
    one.send(|batch| push(batch, Mark::Plain, &Step { val: 3 }));
    one.ask(ask::CLOSE);
    rest().await;
    server.tasks.wait(Duration::from_secs(10)).await;

    let file = folder.path().join("hall-r1.rec");
    let recording = Recording::read(&file).expect("it was written");
    assert_eq!((recording.kind(), recording.room_id(), recording.is_cut()), ("hall", "r1", false));
    let replayed = kind().replay(&recording).expect("it can be replayed");
    assert!(replayed.matches && replayed.hash == recording.hash(), "{replayed:?}");
    assert!((9..=10).contains(&replayed.ticks), "{}", replayed.ticks);
    assert_eq!(replayed.inputs, replayed.ticks + 2 + 4 + 1 + 1 + 1);
    let lines = String::from_utf8(replayed.saved).unwrap();
    assert!(lines.contains("1 steps 3") && lines.contains("3 2 guest 2 true"), "{lines}");

    let kinds: [Arc<dyn AnyRoomKind>; 1] = [Arc::new(kind())];
    let (said, matches) = crate::cli::played_again(&file, &kinds).expect("it can be replayed");
    let ticks = format!("hall r1: {} ticks, {} inputs", replayed.ticks, replayed.inputs);
    assert!(matches && said.contains(&ticks) && said.contains("the same"), "{said}");
    let unknown = crate::cli::played_again(&file, &[]).unwrap_err().to_string();
    assert!(unknown.contains("of kind hall"), "{unknown}");

    let other = RoomKind::<Hall>::new("other").replay(&recording).unwrap_err().to_string();
    assert!(other.contains("of kind hall"), "{other}");
    // A game that has changed since: something else comes of it.
    let changed = RoomKind::<Hall>::new("hall").replay(&recording).expect("it can be replayed");
    assert!(!changed.matches);
    let kinds: [Arc<dyn AnyRoomKind>; 1] = [Arc::new(RoomKind::<Hall>::new("hall"))];
    let (said, matches) = crate::cli::played_again(&file, &kinds).expect("it can be replayed");
    assert!(!matches && said.contains("recorded was "), "{said}");
    let none = Recording::read(folder.path().join("none.rec")).unwrap_err().to_string();
    assert!(none.contains("none.rec"), "{none}");
    let mut bytes = std::fs::read(&file).unwrap();
    let later = RecordedRoom { version: 9, ..RecordedRoom::default() };
    std::fs::write(&file, summed(&later)).unwrap();
    assert!(matches!(Recording::read(&file), Err(ReplayError::Version(9))));
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert!(matches!(Recording::read(&file), Err(ReplayError::Changed)), "byte {at}");
        bytes[at] ^= 1;
    }
    std::fs::write(&file, b"nonsense").unwrap();
    assert!(matches!(Recording::read(&file), Err(ReplayError::Changed)));
}

#[test]
fn a_recording_that_is_full_ends_there_and_is_good_until_then() {
    let kind = hall();
    let setting = Setting {
        id: "r1".into(),
        options: BTreeMap::new(),
        capacity: 3,
        seed: [3; 32],
        now_ms: 1,
        classes: Arc::default(),
    };
    let cuts = metrics::Counter::noop();
    let nowhere = std::path::Path::new("/nowhere");
    let recorder = Recorder::new("hall", &setting, None, nowhere, cuts.clone());
    let core = Core::open(kind.table.clone(), setting, cuts);
    let mut core = core.unwrap_or_else(|e| panic!("{e}"));
    core.record(recorder.with_bytes_max(1000));
    for at_ms in 0..1000 {
        core.apply(at_ms, Input::Tick(Duration::from_millis(50))).unwrap();
    }
    let recording = core.recording().expect("there is one").recording();
    assert!(recording.is_cut());
    let replayed = kind.replay(&recording).expect("it can be replayed");
    assert!(replayed.matches && (50..200).contains(&replayed.ticks), "{}", replayed.ticks);
}
