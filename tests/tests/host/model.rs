//! A limiter that is slow, exact and written from its definition alone: a token bucket in whole numbers.

use ratelimit_tests::tables::world::Rate;

/// Tokens are counted in parts: a token is `period_ns` parts, and `count` parts arrive each nanosecond.
#[derive(Debug)]
pub struct Exact {
    count: u128,
    token: u128,
    full: u128,
    parts: u128,
    last_ns: u64,
}

impl Exact {
    pub fn new(rate: Rate, now_ns: u64) -> Self {
        let token = u128::from(rate.period_ns);
        let full = token * u128::from(rate.burst);
        Self { count: u128::from(rate.count), token, full, parts: full, last_ns: now_ns }
    }

    pub fn admits(&mut self, now_ns: u64) -> bool {
        let arrived = u128::from(now_ns - self.last_ns) * self.count;
        self.parts = self.full.min(self.parts + arrived);
        self.last_ns = now_ns;
        let enough = self.parts >= self.token;
        if enough {
            self.parts -= self.token;
        }
        enough
    }
}

#[test]
fn a_full_bucket_gives_its_burst_and_then_its_rate() {
    let mut bucket = Exact::new(Rate::per_second(10, 3), 0);
    let admitted = |bucket: &mut Exact, now_ns| (0..100).filter(|_| bucket.admits(now_ns)).count();
    assert_eq!(admitted(&mut bucket, 0), 3);
    assert_eq!(admitted(&mut bucket, 99_999_999), 0);
    assert_eq!(admitted(&mut bucket, 100_000_000), 1);
    assert_eq!(admitted(&mut bucket, 300_000_000), 2);
    assert_eq!(admitted(&mut bucket, 3_600_000_000_000), 3);
}
