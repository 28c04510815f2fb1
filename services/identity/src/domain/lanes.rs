//! SHA-256 of many short messages at once: eight side by side in the lanes of vector registers.
//!
//! Walking the audit trail is mostly hashing, and on processors without instructions for SHA-256 eight lanes are about
//! five times as fast as one message after the other. The instruction set is chosen at run time; where the processor
//! has no suitable one, the messages are hashed one by one.

use pulp::{Arch, Simd, WithSimd};
use sha2::{Digest, Sha256};

/// Messages that are hashed side by side.
const LANES: usize = 8;
/// Bytes of a block.
const BLOCK: usize = 64;

/// What a message becomes.
pub(crate) type Hash = [u8; 32];

/// One word of each message.
type Words = [u32; LANES];

/// Messages that wait to be hashed, padded to whole blocks.
#[derive(Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    /// Where each begins, and its length without the padding.
    spans: Vec<(usize, usize)>,
}

impl Messages {
    /// Room for this many messages of this many bytes altogether.
    pub(crate) fn with_capacity(messages: usize, bytes: usize) -> Messages {
        Messages { bytes: Vec::with_capacity(bytes + messages * (BLOCK + 9)), spans: Vec::with_capacity(messages) }
    }

    /// Adds the message that these parts make.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        let length = self.bytes.len() - start;
        self.bytes.push(0x80);
        let padded = (length + 9).next_multiple_of(BLOCK);
        self.bytes.resize(start + padded - 8, 0);
        self.bytes.extend_from_slice(&(length as u64 * 8).to_be_bytes());
        self.spans.push((start, length));
    }

    /// The hashes, in the order of the messages.
    pub(crate) fn hashes(&self) -> Vec<Hash> {
        match Arch::new() {
            Arch::Scalar => self.one_by_one(),
            arch => arch.dispatch(SideBySide(self)),
        }
    }

    fn one_by_one(&self) -> Vec<Hash> {
        self.spans.iter().map(|&(start, length)| Sha256::digest(&self.bytes[start..start + length]).into()).collect()
    }

    fn blocks(&self, message: usize) -> &[u8] {
        let (start, length) = self.spans[message];
        &self.bytes[start..start + (length + 9).next_multiple_of(BLOCK)]
    }
}

struct SideBySide<'a>(&'a Messages);

impl WithSimd for SideBySide<'_> {
    type Output = Vec<Hash>;

    /// Everything below is inlined into this, and compiled for the instruction set that `S` stands for.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Hash> {
        let messages = self.0;
        let mut hashes = vec![[0; 32]; messages.spans.len()];
        // Those of one length go together, so that no lane waits for another.
        let mut order: Vec<usize> = (0..hashes.len()).collect();
        order.sort_unstable_by_key(|&message| messages.blocks(message).len());
        for group in order.chunks(LANES) {
            // Lanes that are left over take the last message again.
            let of_lane: [usize; LANES] = std::array::from_fn(|lane| group[lane.min(group.len() - 1)]);
            let blocks = of_lane.map(|message| messages.blocks(message));
            let longest = blocks.iter().map(|bytes| bytes.len()).max().unwrap_or(0);
            let mut state = INITIAL.map(|word| [word; LANES]);
            for at in (0..longest).step_by(BLOCK) {
                compress(&mut state, &mut load(&blocks, at));
                for (lane, bytes) in blocks.iter().enumerate() {
                    if bytes.len() == at + BLOCK {
                        hashes[of_lane[lane]] = hash(&state, lane);
                    }
                }
            }
        }
        hashes
    }
}

/// The words of the blocks at `at`; of a message that has ended, zeros.
#[inline(always)]
fn load(messages: &[&[u8]; LANES], at: usize) -> [Words; 16] {
    let mut words = [[0; LANES]; 16];
    for (lane, bytes) in messages.iter().enumerate() {
        let block = bytes.get(at..at + BLOCK).unwrap_or(&[0; BLOCK]);
        let (block, _) = block.as_chunks::<4>();
        for (word, bytes) in words.iter_mut().zip(block) {
            word[lane] = u32::from_be_bytes(*bytes);
        }
    }
    words
}

#[inline(always)]
fn hash(state: &[Words; 8], lane: usize) -> Hash {
    let mut hash = [0; 32];
    let (words, _) = hash.as_chunks_mut::<4>();
    for (bytes, word) in words.iter_mut().zip(state) {
        *bytes = word[lane].to_be_bytes();
    }
    hash
}

/// One block of each message: FIPS 180-4, section 6.2.2. Each step is taken in all lanes before the next, for the
/// compiler to make vector instructions of.
#[inline(always)]
fn compress(state: &mut [Words; 8], w: &mut [Words; 16]) {
    let mut s = *state;
    for (sixteen, k) in K.as_chunks::<16>().0.iter().enumerate() {
        if sixteen > 0 {
            schedule(w);
        }
        for (k, w) in k.iter().zip(&*w) {
            let (mut t1, mut t2) = ([0; LANES], [0; LANES]);
            for l in 0..LANES {
                let (a, e) = (s[0][l], s[4][l]);
                let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
                let choice = (e & s[5][l]) ^ (!e & s[6][l]);
                t1[l] = s[7][l].wrapping_add(s1).wrapping_add(choice).wrapping_add(*k).wrapping_add(w[l]);
                let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
                let majority = (a & s[1][l]) ^ (a & s[2][l]) ^ (s[1][l] & s[2][l]);
                t2[l] = s0.wrapping_add(majority);
            }
            let (mut a, mut e) = ([0; LANES], [0; LANES]);
            for l in 0..LANES {
                a[l] = t1[l].wrapping_add(t2[l]);
                e[l] = s[3][l].wrapping_add(t1[l]);
            }
            s = [a, s[0], s[1], s[2], e, s[4], s[5], s[6]];
        }
    }
    for (sum, word) in state.iter_mut().zip(s) {
        for l in 0..LANES {
            sum[l] = sum[l].wrapping_add(word[l]);
        }
    }
}

/// The next sixteen words of each message, in the place of the last.
#[inline(always)]
fn schedule(w: &mut [Words; 16]) {
    for i in 0..16 {
        let (w0, w1, w9, w14) = (w[i], w[(i + 1) % 16], w[(i + 9) % 16], w[(i + 14) % 16]);
        let mut next = [0; LANES];
        for l in 0..LANES {
            let s0 = w1[l].rotate_right(7) ^ w1[l].rotate_right(18) ^ (w1[l] >> 3);
            let s1 = w14[l].rotate_right(17) ^ w14[l].rotate_right(19) ^ (w14[l] >> 10);
            next[l] = w0[l].wrapping_add(s0).wrapping_add(w9[l]).wrapping_add(s1);
        }
        w[i] = next;
    }
}

const INITIAL: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

#[rustfmt::skip]
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lengths_give_what_the_library_gives() {
        let mut messages = Messages::default();
        let mut expected = Vec::new();
        // All places of the end within a block, mixed so that the lanes of a group differ, and one much longer.
        for n in (0..300).map(|n| (n * 89) % 300).chain([70_000, 64, 63, 0]) {
            let text: Vec<u8> = (0..n).map(|i| (i * 31 + n) as u8).collect();
            let (head, tail) = text.split_at(text.len() / 3);
            messages.push(&[head, b"", tail]);
            expected.push(Hash::from(Sha256::digest(&text)));
        }
        assert_eq!(messages.one_by_one(), expected);
        assert_eq!(messages.hashes(), expected);
        // Also where the processor has no vector instructions.
        assert_eq!(Arch::Scalar.dispatch(SideBySide(&messages)), expected);
        assert!(Messages::default().hashes().is_empty());
    }
}
