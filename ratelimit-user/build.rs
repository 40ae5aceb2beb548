//! Embeds the gate's object, built beforehand by `cargo xtask build`.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let object = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../target/bpf/ratelimit.o");
    println!("cargo::rerun-if-changed={}", object.display());
    let embedded = PathBuf::from(env::var("OUT_DIR")?).join("ratelimit.o");
    // Without an object the crate still compiles, for editors and lints; the program then says what is missing.
    fs::write(embedded, fs::read(&object).unwrap_or_default())?;
    Ok(())
}
