//! Inputs that are like the seeds and are not.

/// Longest input, bytes.
const MOST: usize = 4_096;
/// Bytes at which something often goes wrong.
const EDGES: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'\n', b'\r', b'"', b'\'', b'%'];
/// Numbers at which something often goes wrong.
const NUMBERS: [u64; 8] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 62, u64::MAX, u64::MAX - 1];

/// Makes inputs of seeds; the same ones in each run.
pub struct Changes {
    seeds: Vec<Vec<u8>>,
    state: u64,
}

impl Changes {
    /// Those of a target.
    pub fn new(name: &str, seeds: Vec<Vec<u8>>) -> Changes {
        let state = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Changes { seeds, state }
    }

    fn random(&mut self) -> u64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which may be 0: then 0.
    fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            end => (self.random() % end as u64) as usize,
        }
    }

    fn part<'a>(&mut self, of: &'a [u8]) -> &'a [u8] {
        let from = self.below(of.len());
        let length = self.below((of.len() - from).min(64) + 1);
        &of[from..from + length]
    }

    /// The next input.
    pub fn another(&mut self) -> Vec<u8> {
        let seed = self.below(self.seeds.len());
        let mut input = self.seeds[seed].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            match self.below(9) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = EDGES[self.below(EDGES.len())],
                2 => input.insert(at, self.random() as u8),
                3 => {
                    let length = self.below(input.len() - at + 1).min(64);
                    input.drain(at..at + length);
                }
                4 => {
                    let own = input.clone();
                    let part = self.part(&own).to_vec();
                    input.splice(at..at, part);
                }
                5 => {
                    let other = self.below(self.seeds.len());
                    let other = self.seeds[other].clone();
                    let part = self.part(&other).to_vec();
                    input.splice(at..at, part);
                }
                6 => {
                    let number = NUMBERS[self.below(NUMBERS.len())];
                    let width = [1, 2, 4, 8][self.below(4)];
                    let bytes = if self.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
                    let end = (at + width).min(input.len());
                    input.splice(at..end, bytes[..width].iter().copied());
                }
                7 => input.truncate(at),
                8 => {
                    let number = NUMBERS[self.below(NUMBERS.len())].to_string();
                    input.splice(at..at, number.into_bytes());
                }
                _ => input.push(self.random() as u8),
            }
        }
        input.truncate(MOST);
        input
    }
}
