//! The IPv6 tree.

use bytemuck::Zeroable as _;
use ratelimit_common::lookup::{KEYS, LEVELS, Line, TREE_LEAF};

use super::sweep::Segment;

/// Nodes of all levels, the root first, and where the levels begin.
#[derive(Clone, Debug, Default)]
pub struct Part {
    nodes: Vec<Line>,
    /// The first node of each level.
    levels: Vec<u32>,
}

impl Part {
    pub fn of(segments: &[Segment<u128>]) -> Self {
        if segments.is_empty() {
            return Self::default();
        }
        let mut levels = vec![leaves(segments)];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = nodes(below);
            levels.push(above);
        }
        let mut part = Self::default();
        for level in levels.into_iter().rev() {
            part.levels.push(part.nodes.len() as u32);
            part.nodes.extend(level.into_iter().map(|(node, _)| node));
        }
        part
    }

    pub fn lines(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// Writes it, beginning at line `first` of the table, and returns the header.
    pub fn fill(&self, lines: &mut [Line], first: u32) -> Line {
        lines.iter_mut().zip(&self.nodes).for_each(|(line, node)| *line = *node);
        let mut header = Line::zeroed();
        if self.levels.len() <= LEVELS {
            header.0[0] = self.levels.len() as u64;
            for (level, start) in self.levels.iter().enumerate() {
                header.0[1 + level / 2] |= u64::from(first + start) << (level % 2 * 32);
            }
        }
        header
    }
}

/// A node and the last address below it.
type Node = (Line, u128);

fn leaves(segments: &[Segment<u128>]) -> Vec<Node> {
    let ends = segments.iter().skip(1).map(|(next, _)| next.wrapping_sub(1)).chain([u128::MAX]);
    let closed: Vec<(u128, u16)> = ends.zip(segments).map(|(end, (_, class))| (end, *class)).collect();
    closed.chunks(TREE_LEAF).map(leaf).collect()
}

fn leaf(segments: &[(u128, u16)]) -> Node {
    let mut line = Line::zeroed();
    let last = segments.last().map_or(u128::MAX, |(end, _)| *end);
    for index in 0..TREE_LEAF {
        // No address lies behind the last one, so what fills up is never found.
        let (end, class) = segments.get(index).copied().unwrap_or((u128::MAX, 0));
        put(&mut line, index, end);
        line.0[2 * TREE_LEAF] |= u64::from(class) << (16 * index);
    }
    (line, last)
}

fn nodes(below: &[Node]) -> Vec<Node> {
    let node = |children: &[Node]| {
        let mut line = Line::zeroed();
        for index in 0..KEYS {
            let end = children.get(index).map_or(u128::MAX, |(_, last)| *last);
            put(&mut line, index, end);
        }
        (line, children.last().map_or(u128::MAX, |(_, last)| *last))
    };
    below.chunks(KEYS + 1).map(node).collect()
}

fn put(line: &mut Line, index: usize, end: u128) {
    line.0[2 * index] = (end >> 64) as u64;
    line.0[2 * index + 1] = end as u64;
}
