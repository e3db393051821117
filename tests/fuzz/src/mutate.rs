//! Inputs: seeds, cut, joined and bent.

/// Makes inputs out of seeds.
pub(crate) struct Mutator {
    pub(crate) rng: fastrand::Rng,
    seeds: &'static [&'static [u8]],
}

/// Bytes that mean something to the formats fuzzed.
const TOKENS: [&[u8]; 29] = [
    b"\n",
    b"\r\n",
    b"\r",
    b"\n\n",
    b"data: ",
    b"event: ",
    b": c\n\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"1e999",
    b"-0",
    b"\xff",
    b"\"model\":\"x\",",
    b"  ",
    b"${A}",
    b" HTTP/1.1\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b";",
];

impl Mutator {
    pub(crate) fn new(seed: u64, seeds: &'static [&'static [u8]]) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), seeds }
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.seeds[self.rng.usize(..self.seeds.len())].to_vec();
        for _ in 0..self.rng.usize(..6) {
            let at = self.rng.usize(..=input.len());
            match self.rng.u8(..6) {
                0 if at < input.len() => input[at] = self.rng.u8(..),
                1 => {
                    let to = self.rng.usize(at..=input.len());
                    input.drain(at..to.min(at + 16));
                }
                2 => {
                    let token = TOKENS[self.rng.usize(..TOKENS.len())];
                    input.splice(at..at, token.iter().copied());
                }
                3 => {
                    let to = self.rng.usize(at..=input.len());
                    let copy = input[at..to].to_vec();
                    input.splice(at..at, copy);
                }
                4 => {
                    let other = self.seeds[self.rng.usize(..self.seeds.len())];
                    let from = self.rng.usize(..=other.len());
                    input.splice(at.., other[from..].iter().copied());
                }
                _ => input.truncate(at),
            }
        }
        input
    }
}
