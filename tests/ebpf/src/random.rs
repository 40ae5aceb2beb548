//! A random generator that costs less than a helper call.

/// xorshift64*: 64 bits, the upper ones the better.
#[inline(always)]
pub fn draw(state: &mut u64) -> u64 {
    let mut x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    x.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
