//! Which exclusions hold.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::lists::spans::{Number, Span, apart};

/// Where an exclusion decides: of all entries that hold an address the smallest does, of equal ones the exclusion.
/// Spans that lie apart, in order.
pub fn deciding<A: Number>(listed: &[Span<A>], excluded: &[Span<A>]) -> Vec<Span<A>> {
    let mut entries: Vec<(Span<A>, bool)> = listed.iter().map(|span| (*span, true)).collect();
    entries.extend(excluded.iter().map(|span| (*span, false)));
    entries.sort_unstable();
    let mut entries = entries.into_iter().peekable();
    // Those that have begun, the deciding one on top; some may have ended below it.
    let mut open = BinaryHeap::new();
    let mut decided = Vec::new();
    let mut address = Some(A::FIRST);
    while let Some(here) = address {
        while let Some((span, lists)) = entries.next_if(|(span, _)| span.first() <= here) {
            open.push(Reverse((span.more(), lists, span.last())));
        }
        while open.peek().is_some_and(|Reverse((_, _, last))| *last < here) {
            open.pop();
        }
        let next = entries.peek().map(|(span, _)| span.first());
        address = match open.peek() {
            Some(Reverse((_, lists, last))) => {
                let last = next.and_then(A::previous).map_or(*last, |before| before.min(*last));
                decided.extend(Span::new(here, last).filter(|_| !lists));
                last.next()
            }
            None => next,
        };
    }
    apart(decided)
}
