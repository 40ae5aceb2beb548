//! What a person can do where no toolchain was found and none could be made.

use super::own::BPF_LINKER_VERSION;

pub fn text() -> String {
    format!(
        "there is no usable eBPF toolchain, and none could be made (the reason is at the end).\n\
         \n\
         With rustup, on any Linux:\n  \
         rustup toolchain install nightly --profile minimal --component rust-src\n  \
         cargo install cargo-binstall --locked && cargo binstall bpf-linker\n\
         On Debian with its security updates, as root:\n  \
         apt-get install rustc-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev\n  \
         LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version {BPF_LINKER_VERSION} \
         --no-default-features --features llvm-22 --locked\n\
         Then again: cargo xtask setup\n\
         \n\
         The reason"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_named_with_their_commands() {
        let text = text();
        for part in [
            "rustup toolchain install nightly",
            "--component rust-src",
            "apt-get install rustc-web libstd-rust-web-dev-bpf llvm-22-dev",
            "cargo install bpf-linker --version 0.13.0",
            "cargo xtask setup",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
