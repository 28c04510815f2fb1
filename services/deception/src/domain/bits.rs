//! Some of the events of a run, one bit for each.

use super::index::RUN;

/// Some of the events of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits(Box<[u64; RUN / 64]>);

impl Bits {
    pub(crate) fn none() -> Self {
        Bits(Box::new([0; RUN / 64]))
    }

    /// 64 at a time, as they are stored.
    pub(crate) fn words(&self) -> impl Iterator<Item = &u64> {
        self.0.iter()
    }

    pub(crate) fn words_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        self.0.iter_mut()
    }

    /// The first ones.
    pub(crate) fn first(count: usize) -> Self {
        let mut bits = Bits::none();
        let (whole, rest) = (count / 64, count % 64);
        for (at, word) in bits.0.iter_mut().enumerate() {
            *word = match at.cmp(&whole) {
                std::cmp::Ordering::Less => u64::MAX,
                std::cmp::Ordering::Equal => (1 << rest) - 1,
                std::cmp::Ordering::Greater => 0,
            };
        }
        bits
    }

    pub(crate) fn set(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    pub(crate) fn has(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    /// Keeps those that are in `other` too.
    pub(crate) fn and(&mut self, other: &Bits) {
        for (word, other) in self.0.iter_mut().zip(other.0.iter()) {
            *word &= other;
        }
    }

    /// Adds those that are in `other`.
    pub(crate) fn or(&mut self, other: &Bits) {
        for (word, other) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= other;
        }
    }

    /// Keeps those for which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (at, word) in self.0.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                if !keep(at * 64 + usize::try_from(bit).unwrap_or(0)) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> i64 {
        self.0.iter().map(|word| i64::from(word.count_ones())).sum()
    }

    /// The last one first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().rev().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = 63_u32.checked_sub(left.leading_zeros())?;
                left &= !(1 << bit);
                Some(at * 64 + usize::try_from(bit).unwrap_or(0))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_what_they_say() {
        let mut bits = Bits::first(130);
        assert_eq!((bits.count(), Bits::first(RUN).count(), Bits::first(0).is_empty()), (130, 65_536, true));
        bits.retain(|place| place % 64 == 1);
        assert_eq!(bits.newest_first().collect::<Vec<_>>(), [129, 65, 1]);
        let mut one = Bits::none();
        one.set(65);
        one.set(RUN);
        bits.and(&one);
        assert_eq!(bits, one);
    }
}
