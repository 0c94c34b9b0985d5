//! FarmHash's 64-bit fingerprint, with which TensorFlow's `StringToHashBucketFast` chooses the
//! bucket of a word.
//!
//! The algorithm is that of `farmhashna::Hash64` in Google's FarmHash (Geoff Pike, 2014, MIT
//! licence, <https://github.com/google/farmhash>), written from its definition. The crate
//! `farmhash` 1.1.5 does not fit: it returns wrong values for lengths over 64 that are multiples of
//! 64, because it mixes the last block in twice.

#![allow(clippy::many_single_char_names, reason = "the algorithm's own names")]

use std::mem::swap;

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;
const SEED: u64 = 81;
const BLOCK: usize = 64;

/// Returns the bucket of a word among `buckets` buckets. `buckets` must not be 0.
pub(super) fn hash_bucket(word: &[u8], buckets: u64) -> u64 {
    fingerprint64(word) % buckets
}

/// FarmHash's `Fingerprint64`, which is the same on every platform and in every release.
pub(super) fn fingerprint64(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0..=16 => up_to_16(bytes),
        17..=32 => up_to_32(bytes),
        33..=64 => up_to_64(bytes),
        _ => longer(bytes),
    }
}

fn read64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn read32(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u64::from(u32::from_le_bytes(word))
}

fn shift_mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

/// Mixes two words into one, as Murmur does.
fn mix(u: u64, v: u64, multiplier: u64) -> u64 {
    let a = shift_mix((u ^ v).wrapping_mul(multiplier));
    let b = shift_mix((v ^ a).wrapping_mul(multiplier));
    b.wrapping_mul(multiplier)
}

fn multiplier_of(length: usize) -> u64 {
    K2.wrapping_add(length as u64 * 2)
}

fn up_to_16(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    let multiplier = multiplier_of(length);
    match length {
        0 => K2,
        1..=3 => {
            let (first, middle, last) = (bytes[0], bytes[length / 2], bytes[length - 1]);
            let y = u64::from(first) + (u64::from(middle) << 8);
            let z = length as u64 + (u64::from(last) << 2);
            shift_mix(y.wrapping_mul(K2) ^ z.wrapping_mul(K0)).wrapping_mul(K2)
        }
        4..=7 => mix(length as u64 + (read32(bytes, 0) << 3), read32(bytes, length - 4), multiplier),
        _ => {
            let a = read64(bytes, 0).wrapping_add(K2);
            let b = read64(bytes, length - 8);
            let c = b.rotate_right(37).wrapping_mul(multiplier).wrapping_add(a);
            let d = a.rotate_right(25).wrapping_add(b).wrapping_mul(multiplier);
            mix(c, d, multiplier)
        }
    }
}

/// The first mix of both ends of 17 to 64 bytes.
struct Ends {
    a: u64,
    y: u64,
    z: u64,
}

fn ends(bytes: &[u8], first_multiplier: u64) -> Ends {
    let length = bytes.len();
    let a = read64(bytes, 0).wrapping_mul(first_multiplier);
    let b = read64(bytes, 8);
    let c = read64(bytes, length - 8).wrapping_mul(multiplier_of(length));
    let d = read64(bytes, length - 16).wrapping_mul(K2);
    let y = a.wrapping_add(b).rotate_right(43).wrapping_add(c.rotate_right(30)).wrapping_add(d);
    let z = a.wrapping_add(b.wrapping_add(K2).rotate_right(18)).wrapping_add(c);
    Ends { a, y, z }
}

fn up_to_32(bytes: &[u8]) -> u64 {
    let Ends { y, z, .. } = ends(bytes, K1);
    mix(y, z, multiplier_of(bytes.len()))
}

fn up_to_64(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    let multiplier = multiplier_of(length);
    let Ends { a, y, z, .. } = ends(bytes, K2);
    let z = mix(y, z, multiplier);
    let e = read64(bytes, 16).wrapping_mul(multiplier);
    let f = read64(bytes, 24);
    let g = y.wrapping_add(read64(bytes, length - 32)).wrapping_mul(multiplier);
    let h = z.wrapping_add(read64(bytes, length - 24)).wrapping_mul(multiplier);
    let u = e.wrapping_add(f).rotate_right(43).wrapping_add(g.rotate_right(30)).wrapping_add(h);
    let v = e.wrapping_add(f.wrapping_add(a).rotate_right(18)).wrapping_add(g);
    mix(u, v, multiplier)
}

/// The state between blocks.
struct State {
    x: u64,
    y: u64,
    z: u64,
    v: (u64, u64),
    w: (u64, u64),
}

impl State {
    fn new(bytes: &[u8]) -> Self {
        let y = SEED.wrapping_mul(K1).wrapping_add(113);
        Self {
            x: SEED.wrapping_mul(K2).wrapping_add(read64(bytes, 0)),
            y,
            z: shift_mix(y.wrapping_mul(K2).wrapping_add(113)).wrapping_mul(K2),
            v: (0, 0),
            w: (0, 0),
        }
    }

    /// Mixes a block in. The last block has its own multiplier, and weighs two words nine times.
    fn take(&mut self, block: &[u8], multiplier: u64, weight: u64) {
        let Self { x, y, z, v, w } = self;
        *x = x.wrapping_add(*y).wrapping_add(v.0).wrapping_add(read64(block, 8));
        *x = x.rotate_right(37).wrapping_mul(multiplier);
        *y = y.wrapping_add(v.1).wrapping_add(read64(block, 48)).rotate_right(42).wrapping_mul(multiplier);
        *x ^= w.1.wrapping_mul(weight);
        *y = y.wrapping_add(v.0.wrapping_mul(weight)).wrapping_add(read64(block, 40));
        *z = z.wrapping_add(w.0).rotate_right(33).wrapping_mul(multiplier);
        *v = half_block(&block[..32], v.1.wrapping_mul(multiplier), x.wrapping_add(w.0));
        *w = half_block(&block[32..], z.wrapping_add(w.1), y.wrapping_add(read64(block, 16)));
        swap(z, x);
    }
}

/// Mixes 32 bytes and two seeds into two words.
fn half_block(bytes: &[u8], a: u64, b: u64) -> (u64, u64) {
    let last = read64(bytes, 24);
    let first = a.wrapping_add(read64(bytes, 0));
    let sum = first.wrapping_add(read64(bytes, 8)).wrapping_add(read64(bytes, 16));
    let b = b.wrapping_add(first).wrapping_add(last).rotate_right(21).wrapping_add(sum.rotate_right(44));
    (sum.wrapping_add(last), b.wrapping_add(first))
}

fn longer(bytes: &[u8]) -> u64 {
    // The last block is the last 64 bytes. It may overlap the block before it, which ends before
    // the last byte.
    let rest = (bytes.len() - 1) % BLOCK;
    let mut state = State::new(bytes);
    for block in bytes[..bytes.len() - 1].chunks_exact(BLOCK) {
        state.take(block, K1, 1);
    }
    let multiplier = K1.wrapping_add((state.z & 0xff) << 1);
    state.w.0 = state.w.0.wrapping_add(rest as u64);
    state.v.0 = state.v.0.wrapping_add(state.w.0);
    state.w.0 = state.w.0.wrapping_add(state.v.0);
    state.take(&bytes[bytes.len() - BLOCK..], multiplier, 9);
    let State { x, y, z, v, w } = state;
    let left = mix(v.0, w.0, multiplier).wrapping_add(shift_mix(y).wrapping_mul(K0)).wrapping_add(z);
    let right = mix(v.1, w.1, multiplier).wrapping_add(x);
    mix(left, right, multiplier)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word of the fixture with `length` bytes. Neighbouring bytes differ.
    fn word(length: usize) -> Vec<u8> {
        (0..length).map(|i| b'a' + ((i * 7 + length) % 26) as u8).collect()
    }

    #[test]
    fn words_of_0_to_512_bytes_get_the_buckets_of_tensorflow() {
        // The product of the two numbers of buckets exceeds 2^64, so equal buckets in both mean
        // equal hashes.
        let lines = include_str!("../../../tests/fixtures/farmhash.txt").lines();
        let mut lengths = 0;
        for line in lines.filter(|line| !line.starts_with('#')) {
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap());
            let length = numbers.next().unwrap() as usize;
            assert_eq!(length, lengths);
            for buckets in [u64::pow(2, 61) - 1, 1_000_003] {
                assert_eq!(Some(hash_bucket(&word(length), buckets)), numbers.next(), "{length} bytes");
            }
            lengths += 1;
        }
        assert_eq!(lengths, 513);
    }
}
