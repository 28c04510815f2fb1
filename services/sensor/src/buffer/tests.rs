use proptest::prelude::*;

use super::*;

fn event(text: &str) -> Event {
    Event { msg: text.to_owned(), fields_json: "{}".into(), ..Event::default() }
}

fn texts(buffer: &Buffer, cursor: &mut Cursor) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(batch) = buffer.read(cursor, 7, 1 << 20).unwrap() {
        assert!(batch.events.len() <= 7 && batch.last() >= batch.first);
        texts.extend(batch.events.into_iter().map(|event| event.msg));
    }
    texts
}

#[test]
fn what_was_appended_is_there_after_a_kill_and_gone_once_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let events: Vec<Event> = (0..100).map(|n| event(&n.to_string())).collect();
    let (first, end) = {
        let (buffer, mut writer) = Buffer::open(folder.path(), 1 << 30).unwrap();
        assert_eq!(writer.append(&events).unwrap(), 0);
        let end = *buffer.head().borrow();
        // As kill -9 leaves it: nothing is closed.
        std::mem::forget(writer);
        (end - 100, end)
    };
    let (buffer, mut writer) = Buffer::open(folder.path(), 1 << 30).unwrap();
    assert_eq!(buffer.waiting(), 100);
    let mut cursor = buffer.start();
    let batch = buffer.read(&mut cursor, 1000, 1 << 20).unwrap().unwrap();
    assert_eq!((batch.first, batch.last(), batch.events.len()), (first, end - 1, 100));
    writer.append(&[event("new")]).unwrap();
    assert_eq!(texts(&buffer, &mut cursor), ["new"]);

    buffer.acknowledge(end - 11).unwrap();
    drop((buffer, writer));
    let (buffer, mut writer) = Buffer::open(folder.path(), 1 << 30).unwrap();
    assert_eq!(buffer.waiting(), 11);
    let left = texts(&buffer, &mut buffer.start());
    assert_eq!((left.len(), left[0].as_str(), left[10].as_str()), (11, "90", "new"));
    buffer.acknowledge(u64::MAX / 2).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "one segment and the mark");
    drop(buffer);
    writer.append(&[event("late")]).unwrap();
}

#[test]
fn an_end_that_was_cut_off_costs_what_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = {
        let (buffer, mut writer) = Buffer::open(folder.path(), 1 << 30).unwrap();
        writer.append(&[event("one"), event("two"), event("three")]).unwrap();
        name(folder.path(), *buffer.head().borrow() - 3)
    };
    let length = std::fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let (buffer, mut writer) = Buffer::open(folder.path(), 1 << 30).unwrap();
    writer.append(&[event("four")]).unwrap();
    assert_eq!(texts(&buffer, &mut buffer.start()), ["one", "two", "four"]);
}

#[test]
fn it_never_takes_more_than_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let (buffer, mut writer) = Buffer::open(folder.path(), 64 * 1024).unwrap();
    let large = event(&"x".repeat(4000));
    let mut lost = 0;
    for _ in 0..100 {
        lost += writer.append(std::slice::from_ref(&large)).unwrap();
    }
    assert!(lost >= 84, "{lost}");
    assert_eq!(buffer.waiting(), 100 - lost);
    let head = *buffer.head().borrow();
    assert_eq!(texts(&buffer, &mut buffer.start()).len() as u64, 100 - lost);
    buffer.acknowledge(head - 1).unwrap();
}

#[test]
fn segments_follow_each_other_and_are_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let (buffer, mut writer) = Buffer::open(folder.path(), 1 << 30).unwrap();
    let large = "x".repeat(100_000);
    let mut cursor = buffer.start();
    let mut seen = 0;
    for n in 0..300 {
        writer.append(&[event(&format!("{n} {large}"))]).unwrap();
        if n % 50 == 0 {
            seen += texts(&buffer, &mut cursor).len();
        }
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().count() > 3);
    let last = texts(&buffer, &mut cursor);
    assert_eq!(seen + last.len(), 300);
    assert!(last.last().unwrap().starts_with("299 "));
    buffer.acknowledge(*buffer.head().borrow() - 1).unwrap();
    assert_eq!(buffer.waiting(), 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    writer.append(&[event("more")]).unwrap();
    assert_eq!(texts(&buffer, &mut cursor), ["more"]);
}

proptest! {
    #[test]
    fn any_damage_is_survived(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let path = {
            let (buffer, mut writer) = Buffer::open(folder.path(), 1 << 30).unwrap();
            let events: Vec<Event> = (0..20).map(|n| event(&n.to_string())).collect();
            writer.append(&events).unwrap();
            name(folder.path(), *buffer.head().borrow() - 20)
        };
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        std::fs::write(&path, bytes).unwrap();
        let (buffer, mut writer) = Buffer::open(folder.path(), 1 << 30).unwrap();
        writer.append(&[event("after")]).unwrap();
        let texts = texts(&buffer, &mut buffer.start());
        prop_assert_eq!(texts.last().map(String::as_str), Some("after"));
    }
}
