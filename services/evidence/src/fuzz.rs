//! For the fuzzer: names of files, ranges and signed links. Nothing of it may make one fail.

use uuid::Uuid;

use crate::domain::{
    LinkSigner, clean,
    range::{self, Part},
};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Each by its name.
pub const TARGETS: &[Target] = &[("evidence_name", name), ("evidence_link", link), ("byte_range", byte_range)];

fn name(data: &[u8]) {
    let name = clean(&String::from_utf8_lossy(data));
    assert!(!name.is_empty() && !name.contains(['/', '\\', '\0', '\n', '\r']), "{name:?}");
    assert_eq!(clean(&name), name, "cleaning twice is cleaning once");
}

fn link(data: &[u8]) {
    let Some(signer) = LinkSigner::new(b"a secret of the fuzzer") else { return };
    assert!(signer.verify(Uuid::nil(), Uuid::nil(), 1, &String::from_utf8_lossy(data), 0).is_err());
}

/// Three numbers of eight bytes: first, last, size.
fn byte_range(data: &[u8]) {
    let (numbers, _) = data.as_chunks::<8>();
    let number = |at: usize| numbers.get(at).map(|bytes| u64::from_le_bytes(*bytes));
    let (first, last, size) = (number(0).unwrap_or(0), number(1), number(2).unwrap_or(1_000));
    for part in [Part::From { first, last }, Part::Last(first)] {
        if let Some(range) = range::resolve(part, size) {
            assert!(range.start < range.end && range.end <= size, "{range:?} of {size}");
        }
    }
}
