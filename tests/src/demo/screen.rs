//! What a person sees, on standard output or, when that belongs to a line of JSON, on standard error.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};

const CLEAR_LINE: &str = "\r\x1b[2K";

pub(super) struct Screen {
    out: Box<dyn Write>,
    is_terminal: bool,
    /// Whether the cursor stands behind a line that the next one replaces.
    is_live: bool,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        let (out, is_terminal): (Box<dyn Write>, bool) = match json {
            true => (Box::new(io::stderr()), io::stderr().is_terminal()),
            false => (Box::new(io::stdout()), io::stdout().is_terminal()),
        };
        Self { out, is_terminal, is_live: false }
    }

    pub fn line(&mut self, text: &str) -> Result<()> {
        let clear = if self.is_live { CLEAR_LINE } else { "" };
        self.is_live = false;
        self.write(&format!("{clear}{text}\n"))
    }

    /// On a terminal the next line takes the place of this one.
    pub fn live(&mut self, text: &str) -> Result<()> {
        if !self.is_terminal {
            return self.line(text);
        }
        self.is_live = true;
        self.write(&format!("{CLEAR_LINE}{text}"))
    }

    /// Every line of a text, indented.
    pub fn block(&mut self, text: &str) -> Result<()> {
        for line in text.trim_end().lines() {
            self.line(format!("  {line}").trim_end())?;
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).context("cannot show anything")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_live {
            // Whoever closed the output does not miss it.
            let _ = self.out.write_all(b"\n");
        }
    }
}
