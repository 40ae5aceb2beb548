//! How many questions a zone may be asked in a day.

/// Questions of one day (UTC). The first half of them may be asked at any time, the second half as the day goes on, so that a
/// flood of sources in the morning leaves something for the evening.
///
/// What is spent is written down ahead in leases, so that no crash makes a day's questions more: what was leased and not
/// spent is lost to that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    per_day: Option<u64>,
    spent: Spent,
    /// Up to where what is spent is written down.
    leased: u64,
}

/// Questions of a day, counted since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub day: u64,
    pub questions: u64,
}

const DAY_S: u64 = 86_400;
/// A day is leased in so many parts.
const LEASES: u64 = 256;

impl Budget {
    /// `None`: as many as there are.
    pub const fn new(per_day: Option<u64>) -> Self {
        Self { per_day, spent: Spent { day: 0, questions: 0 }, leased: 0 }
    }

    /// The same budget after what was spent before.
    pub const fn after(self, spent: Spent) -> Self {
        Self { spent, leased: spent.questions, ..self }
    }

    /// Takes questions, all or none; false if so many are not left at this time of the day.
    pub fn take(&mut self, questions: u64, now_s: u64) -> bool {
        self.turn(now_s);
        let is_left = self.left(now_s).is_none_or(|left| questions <= left);
        if is_left {
            self.spent.questions = self.spent.questions.saturating_add(questions);
        }
        is_left
    }

    /// Gives back what was taken on this day and not asked.
    pub const fn give_back(&mut self, questions: u64) {
        self.spent.questions = self.spent.questions.saturating_sub(questions);
    }

    /// What may be asked now; `None` if that is unlimited.
    pub fn left(&self, now_s: u64) -> Option<u64> {
        let is_day_before = now_s / DAY_S + 1 == self.spent.day;
        self.per_day.map(|per_day| match is_day_before {
            true => 0,
            false => allowed(per_day, now_s % DAY_S).saturating_sub(self.spent(now_s)),
        })
    }

    /// Questions asked on this day.
    pub const fn spent(&self, now_s: u64) -> u64 {
        if is_other_day(self.spent.day, now_s / DAY_S) { 0 } else { self.spent.questions }
    }

    /// What is to be written down before anything is asked: more than was spent, so that it seldom has to be.
    pub fn lease(&mut self) -> Option<Spent> {
        let per_day = self.per_day?;
        if self.spent.questions <= self.leased {
            return None;
        }
        self.leased = self.spent.questions.saturating_add(per_day / LEASES);
        Some(Spent { questions: self.leased, ..self.spent })
    }

    /// What is to be written down when nothing more will be asked.
    pub const fn settle(&self) -> Option<Spent> {
        if self.per_day.is_some() { Some(self.spent) } else { None }
    }

    pub const fn per_day(&self) -> Option<u64> {
        self.per_day
    }

    /// What was spent, whatever day that was.
    pub const fn latest(&self) -> Spent {
        self.spent
    }

    fn turn(&mut self, now_s: u64) {
        let day = now_s / DAY_S;
        if is_other_day(self.spent.day, day) {
            self.spent = Spent { day, questions: 0 };
            self.leased = 0;
        }
    }
}

/// A clock that is set back over midnight begins no day anew.
const fn is_other_day(before: u64, now: u64) -> bool {
    now != before && now + 1 != before
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
        (0..10_000).take_while(|_| budget.take(1, now_s)).count() as u64
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
        assert_eq!(take_all(&mut budget, 21 * DAY_S - 1), 0, "the clock was set back over midnight");
    }

    #[test]
    fn no_budget_is_ever_exceeded_and_none_overflows() {
        let mut none = Budget::new(None);
        assert_eq!(take_all(&mut none, 5), 10_000);
        assert_eq!(none.lease(), None);
        assert_eq!(take_all(&mut Budget::new(Some(0)), 5), 0);
        assert_eq!(take_all(&mut Budget::new(Some(1)), 5), 1);
        for per_day in [0, 1, 7, 300_000, u64::MAX] {
            for second in [0, 1, DAY_S / 3, DAY_S - 1] {
                assert!(allowed(per_day, second) <= per_day, "{per_day} {second}");
            }
        }
        let mut budget = Budget::new(Some(10));
        assert!(!budget.take(6, 0) && budget.take(5, 0), "all or none");
        budget.give_back(2);
        assert_eq!(take_all(&mut budget, 0), 2);
    }

    #[test]
    fn what_is_written_down_covers_what_was_asked_at_every_moment() {
        let (mut budget, mut written, mut writes) = (Budget::new(Some(10_000)), Spent::default(), 0);
        while budget.take(1, 0) {
            if let Some(lease) = budget.lease() {
                (written, writes) = (lease, writes + 1);
            }
            assert!(budget.spent(0) <= written.questions);
        }
        assert!(writes <= LEASES, "{writes}");
        // It was killed, and starts again.
        assert_eq!(take_all(&mut Budget::new(Some(10_000)).after(written), 0), 0);
        assert_eq!(budget.settle(), Some(Spent { day: 0, questions: 5000 }));
    }
}
