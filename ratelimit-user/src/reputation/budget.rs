//! How many questions a zone may be asked in a day.

/// Questions of one day (UTC). The first half of them may be asked at any time, the second half as the day goes on, so that a
/// flood of sources in the morning leaves something for the evening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    per_day: Option<u64>,
    day: u64,
    spent: u64,
}

const DAY_S: u64 = 86_400;

impl Budget {
    /// `None`: as many as there are.
    pub const fn new(per_day: Option<u64>) -> Self {
        Self { per_day, day: 0, spent: 0 }
    }

    /// The same budget after what was asked before under another configuration.
    pub fn with_limit(self, per_day: Option<u64>) -> Self {
        Self { per_day, ..self }
    }

    /// Takes one question; false if there is none left at this time of the day.
    pub fn take(&mut self, now_s: u64) -> bool {
        let day = now_s / DAY_S;
        if day != self.day {
            (self.day, self.spent) = (day, 0);
        }
        let is_left = self.per_day.is_none_or(|per_day| self.spent < allowed(per_day, now_s % DAY_S));
        self.spent += u64::from(is_left);
        is_left
    }

    /// Questions asked on this day.
    pub const fn spent(&self, now_s: u64) -> u64 {
        if now_s / DAY_S == self.day { self.spent } else { 0 }
    }

    pub const fn per_day(&self) -> Option<u64> {
        self.per_day
    }
}

/// How many of a day's questions may have been asked by a second of it.
const fn allowed(per_day: u64, second: u64) -> u64 {
    let at_any_time = per_day.div_ceil(2);
    let later = per_day - at_any_time;
    // In two steps, so that no budget overflows.
    at_any_time + later / DAY_S * second + later % DAY_S * second / DAY_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(budget: &mut Budget, now_s: u64) -> u64 {
        (0..10_000).take_while(|_| budget.take(now_s)).count() as u64
    }

    #[test]
    fn half_is_there_at_once_and_the_rest_comes_over_the_day() {
        let mut budget = Budget::new(Some(1000));
        assert_eq!(take_all(&mut budget, 20 * DAY_S), 500);
        assert_eq!(take_all(&mut budget, 20 * DAY_S + DAY_S / 2), 250);
        assert_eq!(take_all(&mut budget, 21 * DAY_S - 1), 249);
        assert_eq!(budget.spent(21 * DAY_S - 1), 999);
        assert_eq!(budget.spent(21 * DAY_S), 0);
        assert_eq!(take_all(&mut budget, 21 * DAY_S), 500);
    }

    #[test]
    fn no_budget_is_ever_exceeded_and_none_overflows() {
        let mut none = Budget::new(None);
        assert_eq!(take_all(&mut none, 5), 10_000);
        assert_eq!(take_all(&mut Budget::new(Some(0)), 5), 0);
        assert_eq!(take_all(&mut Budget::new(Some(1)), 5), 1);
        for per_day in [0, 1, 7, 300_000, u64::MAX] {
            for second in [0, 1, DAY_S / 3, DAY_S - 1] {
                assert!(allowed(per_day, second) <= per_day, "{per_day} {second}");
            }
        }
    }
}
