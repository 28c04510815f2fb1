//! Parts of a file, as HTTP's Range asks for them (RFC 9110, section 14).

use std::ops::Range;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// From a byte on; to a byte, included, or to the end.
    From { first: u64, last: Option<u64> },
    /// The last bytes, as many as there are at most.
    Last(u64),
}

/// The part of a file of `size` bytes that is meant; `None` where no byte of it is in the file.
pub(crate) fn resolve(part: Part, size: u64) -> Option<Range<u64>> {
    let range = match part {
        Part::From { first, last } => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
        Part::Last(count) => size - count.min(size)..size,
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(first: u64, last: Option<u64>) -> Part {
        Part::From { first, last }
    }

    #[test]
    fn parts_are_cut_at_the_end_and_those_behind_it_are_none() {
        for (part, range) in [
            (from(0, None), Some(0..10)),
            (from(0, Some(0)), Some(0..1)),
            (from(9, None), Some(9..10)),
            (from(3, Some(5)), Some(3..6)),
            (from(3, Some(10)), Some(3..10)),
            (from(3, Some(u64::MAX)), Some(3..10)),
            (from(10, None), None),
            (from(10, Some(12)), None),
            (Part::Last(1), Some(9..10)),
            (Part::Last(10), Some(0..10)),
            (Part::Last(u64::MAX), Some(0..10)),
            (Part::Last(0), None),
        ] {
            assert_eq!(resolve(part, 10), range, "{part:?}");
        }
        assert_eq!(resolve(from(0, None), 0), None);
        assert_eq!(resolve(Part::Last(5), 0), None);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_outside(first: u64, last: Option<u64>, count: u64, size: u64) {
            for part in [from(first, last), Part::Last(count)] {
                if let Some(range) = resolve(part, size) {
                    prop_assert!(range.start < range.end && range.end <= size);
                }
            }
        }
    }
}
