//! Tests on the oldest kernel supported, Debian 12's Linux 6.1, in a machine that qemu emulates.
//!
//! Neither root nor KVM is needed and nothing is installed: kernel, emulator and the guest's few programs are Debian
//! packages unpacked under `target/`. The guest has no disk and no network; it runs the test binaries from its memory.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::TestExecutable;
use crate::debian_root::Tree;
use crate::process;
use crate::workspace::Workspace;

/// The guest's last line, if every test binary ended well.
pub const ENDED_WELL: &str = "oldest: every test binary ended well";

/// The test binaries that run in the guest, with what they are told if no filter is given. Where tests compare with the
/// clock, an emulated processor is too slow for them.
pub const TESTS: [(&str, &[&str]); 3] = [
    ("kernel", &[]),
    ("attach", &[]),
    (
        "gateway",
        &[
            "explain::",
            "families::",
            "gap::",
            "--skip=gap::a_crash_in_a_flood_opens_nothing",
            "--skip=gap::ten_replacements_cost_honest_clients_nothing",
        ],
    ),
];

const RELEASE: &str = "6.1.";
const MODULES: [&str; 2] = ["veth", "macvlan"];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";

const TREE: Tree = Tree {
    name: "oldest-root",
    purpose: "an emulated machine with the oldest kernel supported",
    packages: &["busybox-static", "iproute2", "linux-image-amd64", "qemu-system-x86"],
    witnesses: &[
        "boot",
        "usr/bin/busybox",
        "usr/bin/ip",
        "usr/bin/qemu-system-x86_64",
        "usr/lib/modules",
        "usr/share/qemu",
        "usr/share/seabios",
    ],
    // Of the kernel's modules only those for network devices that are no hardware: 300 MB less.
    left_out: &[
        "./lib/modules/*/kernel/[!d]*",
        "./lib/modules/*/kernel/drivers/[!n]*",
        "./lib/modules/*/kernel/drivers/net/*/*",
    ],
    extracted_mb: 200,
};

/// The command that starts the machine. It prints what the tests print and ends when they have ended.
pub fn machine(
    workspace: &Workspace,
    tests: &[TestExecutable],
    controller: &Path,
    filter: Option<&str>,
) -> Result<Command> {
    ensure!(ARCH == "x86_64", "the oldest kernel is tried on x86-64 only; this machine is {ARCH}");
    let target = std::path::absolute(workspace.target())?;
    let tree = TREE.ensure(&target)?;
    let release = kernel_release(&tree)?;
    let dir = target.join("oldest");
    let guest = dir.join("guest");
    if guest.exists() {
        fs::remove_dir_all(&guest).with_context(|| format!("cannot remove {}", guest.display()))?;
    }
    furnish(&guest, &tree, &release)?;
    copy_program(controller, &guest.join("ratelimit"), &guest)?;
    for test in tests {
        copy_program(&test.path, &guest.join("tests").join(&test.name), &guest)?;
    }
    process::write_atomically(&guest.join("init"), init(tests, filter).as_bytes(), 0o755)?;
    pack(&tree, &guest, &dir)?;
    Ok(qemu(&tree, &release, &dir.join("initramfs")))
}

/// The one kernel of the tree.
fn kernel_release(tree: &Path) -> Result<String> {
    let boot = tree.join("boot");
    let names = fs::read_dir(&boot).with_context(|| format!("cannot list {}", boot.display()))?;
    let release = names
        .flatten()
        .find_map(|entry| entry.file_name().to_str()?.strip_prefix("vmlinuz-").map(String::from))
        .with_context(|| format!("no kernel in {}", boot.display()))?;
    if !release.starts_with(RELEASE) {
        bail!(
            "this machine's apt sources offer Linux {release}, but the oldest kernel supported, {RELEASE}x, is Debian 12's: \
             run this where the apt sources are those of Debian 12, after removing {}",
            tree.display()
        );
    }
    Ok(release)
}

/// Puts into the guest what it needs besides the tests.
fn furnish(guest: &Path, tree: &Path, release: &str) -> Result<()> {
    for empty in ["dev", "proc", "run", "sys", "tmp"] {
        let path = guest.join(empty);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    copy(&tree.join("usr/bin/busybox"), &guest.join("busybox/busybox"))?;
    let drivers = tree.join("usr/lib/modules").join(release).join("kernel/drivers/net");
    for module in MODULES {
        let file = format!("{module}.ko");
        copy(&drivers.join(&file), &guest.join("modules").join(&file))?;
    }
    // With its own libraries, which may be older than those of the test binaries.
    let (ip, libraries) = (tree.join("usr/bin/ip"), tree.join(LIBRARIES));
    copy(&ip, &guest.join("debian/usr/bin/ip"))?;
    let listing = process::output(in_tree(tree).arg("--list").arg(&ip))?;
    let needed = paths(&listing).filter_map(|path| Some(PathBuf::from(path.file_name()?)));
    for library in needed.chain([PathBuf::from(LOADER)]) {
        copy(&libraries.join(&library), &guest.join("debian").join(LIBRARIES).join(&library))?;
    }
    Ok(())
}

/// Copies a program of this machine, and its libraries to where it looks for them.
fn copy_program(program: &Path, place: &Path, guest: &Path) -> Result<()> {
    copy(program, place)?;
    let listing = process::output(Command::new("ldd").arg(program))?;
    for library in paths(&listing) {
        copy(&library, &guest.join(library.strip_prefix("/")?))?;
    }
    Ok(())
}

/// The files in what the loader lists, one a line: `libc.so.6 => /lib/libc.so.6 (0x7f…)` or `/lib64/ld.so (0x7f…)`.
fn paths(listing: &str) -> impl Iterator<Item = PathBuf> {
    listing
        .lines()
        .filter_map(|line| line.rsplit(" => ").next()?.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The guest's first process.
fn init(tests: &[TestExecutable], filter: Option<&str>) -> String {
    let mut script = String::from(
        "#!/busybox/busybox sh\n\
         /busybox/busybox --install -s /busybox\n\
         export PATH=/busybox RATELIMIT_BIN=/ratelimit RATELIMIT_DEBIAN_ROOT=/debian\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t tmpfs tmpfs /run\n\
         mount -t tmpfs tmpfs /tmp\n\
         for module in /modules/*; do insmod $module; done\n\
         uname -srv\n\
         (sleep 3600; echo oldest: an hour is over; poweroff -f) &\n",
    );
    for test in tests {
        let own = TESTS.iter().find(|(name, _)| *name == test.name).map_or(&[][..], |(_, words)| words);
        let words: Vec<String> = match filter {
            Some(filter) => vec![quoted(filter)],
            None => own.iter().map(|word| quoted(word)).collect(),
        };
        script.push_str(&format!(
            "echo; echo '     Running {0}'; /tests/{0} --test-threads=1 {1} || failed=1\n",
            test.name,
            words.join(" ")
        ));
    }
    script.push_str(&format!("[ $failed ] || echo '{ENDED_WELL}'\npoweroff -f\n"));
    script
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Packs the guest into an archive that the kernel unpacks into its memory.
fn pack(tree: &Path, guest: &Path, dir: &Path) -> Result<()> {
    let mut command = Command::new(tree.join("usr/bin/busybox"));
    command.args(["sh", "-c", "find . | cpio -o -H newc -F ../initramfs"]).current_dir(guest);
    process::run_logged(&mut command, &dir.join("log/pack.log"))
}

/// Emulates the processor also where there is KVM, so that a test says the same everywhere.
fn qemu(tree: &Path, release: &str, initramfs: &Path) -> Command {
    let mut command = in_tree(tree);
    command
        .env("QEMU_MODULE_DIR", tree.join(LIBRARIES).join("qemu"))
        .arg(tree.join("usr/bin/qemu-system-x86_64"))
        .arg("-L")
        .arg(tree.join("usr/share/qemu"))
        .arg("-L")
        .arg(tree.join("usr/share/seabios"))
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1536"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(tree.join("boot").join(format!("vmlinuz-{release}")))
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 loglevel=1 panic=-1"])
        .stdin(Stdio::null());
    command
}

/// A program of the tree, still to be named, with the tree's own loader and libraries.
fn in_tree(tree: &Path) -> Command {
    let libraries = tree.join(LIBRARIES);
    let mut command = Command::new(libraries.join(LOADER));
    command.arg("--library-path").arg(libraries);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_files_that_the_loader_lists() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f00)\n\
                       \t/lib64/ld.so => /t/ld.so (0x00007f01)\n\t/lib64/ld-linux.so.2 (0x00007f02)\n";
        let expected = ["/lib/x/libc.so.6", "/t/ld.so", "/lib64/ld-linux.so.2"].map(PathBuf::from);
        assert_eq!(paths(listing).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_filter_replaces_the_choice_of_tests_and_is_quoted() {
        let tests = [TestExecutable { name: "gateway".into(), path: "/t/gateway-1f".into() }];
        let script = init(&tests, None);
        assert!(script.contains("/tests/gateway --test-threads=1 'explain::' 'families::'"), "{script}");
        let script = init(&tests, Some("it's"));
        assert!(script.contains(r"/tests/gateway --test-threads=1 'it'\''s' || failed=1"), "{script}");
    }
}
