//! Text for people: aligned columns, numbers and spans of time that can be read at a glance.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a header, columns two blanks apart. A column that is empty in every row is left out.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

const GAP: &str = "  ";

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// As many as there are.
    pub fn rows<C: IntoIterator<Item = String>>(&mut self, rows: impl IntoIterator<Item = C>) {
        rows.into_iter().for_each(|row| self.row(row));
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn text(&self) -> String {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|column| !self.is_blank(*column)).collect();
        let widths: Vec<usize> = shown.iter().map(|column| self.width(*column)).collect();
        let header: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let mut out = self.line(&header, &shown, &widths);
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            out.push_str(&self.line(&cells, &shown, &widths));
        }
        out
    }

    fn line(&self, cells: &[&str], shown: &[usize], widths: &[usize]) -> String {
        let padded = shown.iter().zip(widths).map(|(&column, &width)| {
            let cell = cells.get(column).copied().unwrap_or("");
            match self.columns[column].1 {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            }
        });
        let line = padded.collect::<Vec<_>>().join(GAP);
        format!("{}\n", line.trim_end())
    }

    fn is_blank(&self, column: usize) -> bool {
        self.cells(column).all(str::is_empty)
    }

    fn width(&self, column: usize) -> usize {
        let header = self.columns[column].0;
        self.cells(column).chain([header]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row.get(column).map_or("", String::as_str))
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The two largest units of a span of time: `2 h 5 min`.
pub(super) fn span(span: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let seconds = span.as_secs();
    if seconds == 0 {
        return format!("{} ms", span.as_millis());
    }
    let largest = UNITS.iter().position(|(_, size)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in UNITS.iter().skip(largest).take(2) {
        if rest >= *size {
            parts.push(format!("{} {unit}", rest / size));
        }
        rest %= size;
    }
    parts.join(" ")
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

/// Milliseconds as they are measured: those of the network to one, faster ones to a tenth.
pub(super) fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.1} ms") } else { format!("{value:.0} ms") }
}

/// Somebody else's text: what a terminal would obey or hide stands there as an escape.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '"' | '\'' | '\\' => out.push(letter),
            other => out.extend(other.escape_debug()),
        }
    }
    out
}

/// Every line behind so many blanks.
pub(super) fn indented(text: &str, blanks: usize) -> String {
    let line = |line: &str| format!("{:blanks$}{line}\n", "");
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_empty_ones_go() {
        let mut table = Table::new(&[("name", Align::Left), ("note", Align::Left), ("count", Align::Right)]);
        table.row(["smtp".into(), String::new(), number(1_234)]);
        table.row(["submissions".into(), String::new(), number(7)]);
        assert_eq!(table.text(), "name         count\nsmtp         1,234\nsubmissions      7\n");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000), "1,000");
        assert_eq!(number(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(of(0), "0 ms");
        assert_eq!(of(59), "59 s");
        assert_eq!(of(60), "1 min");
        assert_eq!(of(7_505), "2 h 5 min");
        assert_eq!(of(7_205), "2 h");
        assert_eq!(of(90_061), "1 d 1 h");
        assert_eq!(span(Duration::from_millis(250)), "250 ms");
    }

    #[test]
    fn milliseconds_are_as_precise_as_they_deserve() {
        assert_eq!(milliseconds(0.0), "0.0 ms");
        assert_eq!(milliseconds(0.42), "0.4 ms");
        assert_eq!(milliseconds(12.4), "12 ms");
        assert_eq!(milliseconds(2_000.0), "2000 ms");
    }

    #[test]
    fn foreign_text_says_nothing_to_the_terminal() {
        assert_eq!(harmless(r#"https://bl.example/?q="é"&p='\'"#), r#"https://bl.example/?q="é"&p='\'"#);
        assert_eq!(harmless("\u{1b}[2Ja\r\nb\u{9b}1m"), r"\u{1b}[2Ja\r\nb\u{9b}1m");
        assert_eq!(harmless("a\u{202e}b\u{200b}c\u{2028}"), r"a\u{202e}b\u{200b}c\u{2028}");
    }

    #[test]
    fn lists_read_like_a_sentence() {
        assert_eq!(list(&["smtp"]), "smtp");
        assert_eq!(list(&["smtp", "imap"]), "smtp and imap");
        assert_eq!(list(&["smtp", "imap", "pop3"]), "smtp, imap and pop3");
    }
}
