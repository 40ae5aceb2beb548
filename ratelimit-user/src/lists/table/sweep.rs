//! From networks that lie inside one another to segments that lie side by side.

use super::{
    Layer,
    classes::{Classes, State},
};
use crate::lists::spans::Number;

/// A segment: its first address, and its class up to the next segment.
pub type Segment<A> = (A, u16);

/// The segments of IPv4; none where there is no network.
pub fn v4(layers: &[Layer<'_>], classes: &mut Classes) -> Vec<Segment<u32>> {
    // One word a network, so that sorting is fast: the address, the length, the layer.
    const LAYER_BITS: u32 = 16;
    let mut words: Vec<u64> = Vec::with_capacity(layers.iter().map(|layer| layer.networks.v4().len()).sum());
    for (layer, number) in layers.iter().zip(0u16..) {
        let word = |network: &crate::lists::V4| {
            (u64::from(network.first()) << 8 | u64::from(network.length())) << LAYER_BITS | u64::from(number)
        };
        words.extend(layer.networks.v4().iter().map(word));
    }
    // Each layer is sorted already, which a stable sort makes use of.
    words.sort();
    segments(
        words.into_iter().map(|word| {
            let (first, length) = ((word >> (8 + LAYER_BITS)) as u32, (word >> LAYER_BITS) as u32 & 0xff);
            (first, first | u32::MAX.checked_shr(length).unwrap_or(0), word as u16)
        }),
        classes,
    )
}

/// The segments of IPv6; none where there is no network.
pub fn v6(layers: &[Layer<'_>], classes: &mut Classes) -> Vec<Segment<u128>> {
    let mut networks: Vec<_> = layers
        .iter()
        .zip(0u16..)
        .flat_map(|(layer, number)| layer.networks.v6().iter().map(move |network| (*network, number)))
        .collect();
    networks.sort();
    segments(networks.into_iter().map(|(network, layer)| (network.first(), network.last(), layer)), classes)
}

/// Sweeps over networks (first, last, layer) in ascending order, wider ones first.
fn segments<A: Number>(networks: impl Iterator<Item = (A, A, u16)>, classes: &mut Classes) -> Vec<Segment<A>> {
    let mut segments = Segments(Vec::with_capacity(networks.size_hint().0));
    // Networks that are open, each with what holds inside it.
    let mut open: Vec<(A, State)> = Vec::new();
    let state_of = |open: &[(A, State)]| open.last().map_or(Classes::NOTHING, |(_, state)| *state);
    for (first, last, layer) in networks {
        while let Some((end, _)) = open.last().copied().filter(|(end, _)| *end < first) {
            open.pop();
            segments.end(end, classes.class(state_of(&open)));
        }
        let state = classes.add(state_of(&open), layer);
        segments.begin(first, classes.class(state));
        open.push((last, state));
    }
    while let Some((end, _)) = open.pop() {
        segments.end(end, classes.class(state_of(&open)));
    }
    segments.0
}

struct Segments<A>(Vec<Segment<A>>);

impl<A: Number> Segments<A> {
    fn end(&mut self, last: A, class: u16) {
        if let Some(first) = last.next() {
            self.begin(first, class);
        }
    }

    fn begin(&mut self, first: A, class: u16) {
        if self.0.is_empty() && first != A::FIRST {
            self.0.push((A::FIRST, 0));
        }
        if self.0.last().is_some_and(|(begun, _)| *begun == first) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|(_, before)| *before != class) {
            self.0.push((first, class));
        }
    }
}
