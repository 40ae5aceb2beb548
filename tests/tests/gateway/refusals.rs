//! Bad input: whatever is wrong is refused with its place and its remedy, and nothing has changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::controller::{BINARY_VARIABLE, Controller, Options};
use ratelimit_tests::gateway::{LAN, Site, Wire};
use ratelimit_tests::netns::{Bpffs, Scratch};
use ratelimit_tests::process::Finished;
use ratelimit_tests::receiver::Receiver;
use ratelimit_user::attach::attached_program;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A machine on which nothing runs, and a place for everything that a controller would leave.
struct Desk {
    wire: Wire,
    bpffs: Bpffs,
    scratch: Scratch,
}

impl Desk {
    fn new() -> Result<Self> {
        let desk = Self { wire: Wire::new(1500)?, bpffs: Bpffs::new()?, scratch: Scratch::new()? };
        desk.configure("")?;
        Ok(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn configure(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.path("ratelimit.toml"), text)?)
    }

    /// The program with the words, behind those of another program where there is one.
    fn run_through(&self, through: &[&str], binary: &str, words: &str) -> Result<Finished> {
        let all: Vec<&str> = through.iter().copied().chain([binary]).chain(words.split_whitespace()).collect();
        self.wire
            .gateway
            .command(all[0])
            .args(&all[1..])
            .args([PathBuf::from("--config"), self.path("ratelimit.toml")])
            .args([PathBuf::from("--socket"), self.path("control.sock")])
            .args([PathBuf::from("--state"), self.path("state")])
            .arg("--pins")
            .arg(self.bpffs.path().join("ratelimit"))
            .output(TIMEOUT)
    }

    /// Asserts that the words are refused with this code, saying all this, and that nothing has changed.
    fn refuses(&self, words: &str, code: i32, says: &[&str]) -> Result<()> {
        let finished = self.run_through(&[], &binary()?, words)?;
        said(&finished, words, code, says)?;
        self.is_untouched().with_context(|| format!("after `ratelimit {words}`"))
    }

    fn is_untouched(&self) -> Result<()> {
        let attached = self.wire.gateway.enter(|| {
            let index = nix::net::if_::if_nametoindex(LAN).context("no interface")?;
            Ok::<_, anyhow::Error>(attached_program(index)?)
        })??;
        ensure!(attached.is_none(), "something is attached: {attached:?}");
        let pins: Vec<_> = match fs::read_dir(self.bpffs.path().join("ratelimit")) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => Vec::new(),
        };
        ensure!(pins.is_empty(), "there are pins: {pins:?}");
        ensure!(!self.path("state/changes.json").exists(), "there are changes by command");
        Ok(())
    }
}

fn binary() -> Result<String> {
    std::env::var(BINARY_VARIABLE).with_context(|| format!("{BINARY_VARIABLE} is not set"))
}

fn said(finished: &Finished, words: &str, code: i32, says: &[&str]) -> Result<()> {
    ensure!(finished.status.code() == Some(code), "`ratelimit {words}` did not end with {code}: {finished:?}");
    for part in says {
        ensure!(
            finished.stderr.contains(part),
            "{part:?} is missing in what `ratelimit {words}` said:\n{}",
            finished.stderr
        );
    }
    // An error is printed once, and by nobody's panic.
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn interfaces_that_cannot_be_protected() -> Result<()> {
    let desk = Desk::new()?;
    desk.wire.gateway.ip("tuntap add dev tun0 mode tun")?;
    desk.refuses("run --interface lna0", 1, &["there is no interface \"lna0\"", "did you mean \"lan0\"?", "tun0"])?;
    desk.refuses("run --interface nothing-like-it", 1, &["there is no interface", "this machine has", LAN])?;
    desk.refuses("run --interface tun0", 1, &["\"tun0\"", "no Ethernet headers", "name the physical interface"])?;
    desk.refuses("run --interface lo", 1, &["loopback", "name the interface that mail arrives on"])?;
    // One that is wrong spoils all: half a protection would be worse than an error.
    desk.refuses("run --interface lan0 --interface tun0", 1, &["\"tun0\"", "no Ethernet headers"])?;
    desk.wire.gateway.ip("route delete default via 192.0.2.2")?;
    desk.wire.gateway.ip("-6 route delete default via 2001:db8::2")?;
    desk.refuses("run --interface auto", 1, &["default route", "interfaces = [\"eth0\"]"])
}

#[test]
fn an_interface_that_another_program_has() -> Result<()> {
    let desk = Desk::new()?;
    let other = Receiver::pass(desk.wire.gateway.path(), LAN)?;
    let finished = desk.run_through(&[], &binary()?, "run --interface lan0")?;
    said(&finished, "run", 1, &["lan0 is taken by another XDP program", "pass"])?;
    drop(other);
    desk.is_untouched()?;

    // With one that is free and one that is not, neither is taken.
    desk.wire.gateway.ip("link add name zzz0 type veth peer name yyy0")?;
    desk.wire.gateway.ip("link set dev zzz0 up")?;
    let _other = Receiver::pass(desk.wire.gateway.path(), "zzz0")?;
    desk.refuses("run --interface lan0 --interface zzz0", 1, &["zzz0 is taken by another XDP program"])
}

#[test]
fn a_driver_that_cannot_is_explained() -> Result<()> {
    let wire = Wire::new(1500)?;
    wire.gateway.ip("link add link lan0 name mac0 type macvlan")?;
    wire.gateway.ip("link set dev mac0 up")?;
    let controller = Controller::start(&wire.gateway, &Options::enforce(["mac0"]))?;
    let status = controller.status()?;
    let [interface] = status.interfaces.as_slice() else { anyhow::bail!("{:?}", status.interfaces) };
    ensure!(interface.attached.as_deref() == Some("generic") && !interface.notes.is_empty(), "{interface:?}");
    Ok(())
}

#[test]
fn privileges_that_are_missing() -> Result<()> {
    let desk = Desk::new()?;
    // Where the program was built, only its owner may be allowed to look.
    let copy = std::env::temp_dir().join(format!("ratelimit-{}", std::process::id()));
    fs::copy(binary()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let outcome = (|| {
        let copy = copy.to_str().context("not a path of text")?;
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let finished = desk.run_through(&nobody, copy, "run --interface lan0")?;
        // What it cannot read it cannot judge: the file comes first.
        said(&finished, "run, as nobody", 1, &["ratelimit.toml", "permission"])?;
        fs::set_permissions(desk.scratch.path(), fs::Permissions::from_mode(0o755))?;
        let finished = desk.run_through(&nobody, copy, "run --interface lan0")?;
        said(&finished, "run, as nobody", 1, &["CAP_NET_ADMIN", "run as root"])?;
        desk.is_untouched()?;
        for (dropped, says) in [
            ("-net_admin", &["CAP_NET_ADMIN missing", "run as root"][..]),
            ("-bpf,-sys_admin", &["CAP_BPF missing", "run as root"]),
            ("-perfmon,-sys_admin", &["CAP_PERFMON missing", "run as root"]),
        ] {
            let through = ["setpriv", "--bounding-set", dropped, "--inh-caps", dropped];
            let finished = desk.run_through(&through, copy, "run --interface lan0")?;
            said(&finished, &format!("run, with {dropped}"), 1, says)?;
            desk.is_untouched()?;
        }
        Ok(())
    })();
    fs::remove_file(&copy)?;
    outcome
}

#[test]
fn a_place_for_pins_that_is_none() -> Result<()> {
    let desk = Desk::new()?;
    let parent = desk.scratch.path().display().to_string();
    let finished = desk
        .wire
        .gateway
        .command(binary()?)
        .args(["run", "--interface", LAN, "--pins", &format!("{parent}/pins")])
        .args([PathBuf::from("--config"), desk.path("ratelimit.toml")])
        .args([PathBuf::from("--socket"), desk.path("control.sock")])
        .args([PathBuf::from("--state"), desk.path("state")])
        .output(TIMEOUT)?;
    let remedy = format!("mount -t bpf bpf {parent}");
    said(&finished, "run --pins", 1, &["no BPF file system", &remedy])?;
    desk.is_untouched()
}

/// A configuration, the line of what is wrong in it, and what must be said.
type Broken = (&'static str, usize, &'static [&'static str]);

const BROKEN: [Broken; 20] = [
    ("mode = enforce\n", 1, &["broken TOML", "put the value in quotes"]),
    ("mode = \"enforce\"\n[services.smtp\n", 2, &["broken TOML"]),
    ("mod = \"enforce\"\n", 1, &["mod", "unknown key", "did you mean mode?"]),
    ("[services.smtp]\nsuorce = \"off\"\n", 2, &["services.smtp.suorce", "did you mean source?"]),
    ("mode = \"enforced\"\n", 1, &["mode", "observe or enforce"]),
    ("mode = 3\n", 1, &["mode", "not"]),
    (
        "[services.smtp]\nsource = { rate = \"fast\", burst = 5 }\n",
        2,
        &["services.smtp.source", "\"fast\"", "10/s, 120/min"],
    ),
    ("[services.smtp]\nsource = { rate = \"0/s\", burst = 5 }\n", 2, &["services.smtp.source", "at least 1"]),
    (
        "[services.smtp]\nsource = { rate = \"1000/s\", burst = 1 }\n",
        2,
        &["services.smtp.source", "too small", "at least"],
    ),
    ("[services.smtp]\nsource = { rate = \"2/h\", burst = 100 }\n", 2, &["services.smtp.source", "at most"]),
    ("block = [\"10.0.0.0/33\"]\n", 1, &["block", "prefix", "at most /32"]),
    ("block = [\"ten\"]\n", 1, &["block", "not a network", "10.0.0.0/8"]),
    ("trust = [\n  \"10.1.0.0/24\",\n  \"10.0.0.1/8\",\n]\n", 3, &["trust", "host bits", "10.0.0.0/8", "10.0.0.1"]),
    ("trust = [\"10.1.0.0/24\"]\nblock = [\"10.1.0.0/24\"]\n", 2, &["block", "trust", "keep it in one of the two"]),
    ("block = [{ network = \"10.1.0.0/24\", services = [\"smpt\"] }]\n", 1, &["smpt", "did you mean smtp?"]),
    (
        "[services.mine]\nsource = { rate = \"1/s\", burst = 5 }\n",
        1,
        &["services.mine", "without ports", "ports = [2525]"],
    ),
    ("[services.mine]\nports = [587]\n", 2, &["587", "submission", "give the port to one of the two"]),
    ("[services.mine]\nports = [70000]\n", 2, &["70000", "65535"]),
    ("interfaces = []\n", 1, &["interfaces", "empty list"]),
    ("memory = \"1 KiB\"\n", 1, &["memory", "1 MiB"]),
];

#[test]
fn configurations_that_are_wrong() -> Result<()> {
    let desk = Desk::new()?;
    let file = desk.path("ratelimit.toml").display().to_string();
    for (text, line, says) in BROKEN {
        desk.configure(text)?;
        let place = format!("{file}:{line}");
        let says: Vec<&str> = [place.as_str()].into_iter().chain(says.iter().copied()).collect();
        desk.refuses("run --interface lan0", 1, &says).with_context(|| text.to_owned())?;
        let checked = desk.run_through(&[], &binary()?, "config check")?;
        let everything = format!("{}{}", checked.stdout, checked.stderr);
        ensure!(checked.status.code() == Some(1), "{checked:?}");
        ensure!(says.iter().all(|part| everything.contains(part)), "`config check` says otherwise:\n{everything}");
    }
    fs::remove_file(desk.path("ratelimit.toml"))?;
    desk.refuses("run --interface lan0", 1, &[&file, "no such file", "name none"])
}

#[test]
fn a_second_controller_is_told_of_the_first() -> Result<()> {
    let mut site = Site::enforcing()?;
    let id = site.controller.id().context("no controller")?;
    let said = site.refused("run --interface lan0", 1)?;
    for part in ["already running", &format!("pid {id}"), "ratelimit reload"] {
        ensure!(said.contains(part), "{part:?} is missing in {said}");
    }
    ensure!(site.controller.is_running()? && site.controller.status()?.pid == Some(id));
    site.controller.kill9()?;
    site.controller.restart()
}

#[test]
fn sockets_that_are_missing_or_somebody_elses() -> Result<()> {
    let desk = Desk::new()?;
    let socket = desk.path("control.sock");
    let shown = socket.display().to_string();
    for words in ["reload", "confirm", "limit show", "events", "block add 10.1.0.0/24", "mode enforce --confirm 1h"] {
        desk.refuses(words, 1, &["no controller is running", "no socket at", &shown, "ratelimit run"])?;
    }
    // These work on pins too, and there are none.
    for words in ["status", "mode", "mode observe", "detach", "explain 10.1.0.1"] {
        desk.refuses(words, 1, &["no controller is running", "nothing is pinned"])?;
    }
    drop(UnixListener::bind(&socket)?);
    desk.refuses("reload", 1, &["nobody listens at", &shown])?;
    fs::remove_file(&socket)?;
    fs::write(&socket, "")?;
    desk.refuses("reload", 1, &[&shown, "not the controller's", "not a socket"])?;
    fs::remove_file(&socket)?;
    let listener = UnixListener::bind(&socket)?;
    chown(&socket, Some(65_534), None)?;
    for words in ["status", "mode observe", "detach", "reload"] {
        desk.refuses(words, 1, &[&shown, "not the controller's", "belongs to user 65534"])?;
    }
    drop(listener);
    Ok(())
}

#[test]
fn commands_that_make_no_sense() -> Result<()> {
    let site = Site::configured("mode = \"enforce\"\nblock = [\"10.2.0.0/24\"]\n")?;
    let before = site.controller.json(&["config", "show"])?;
    for (words, says) in [
        ("mode observe --service smpt", &["smpt", "did you mean smtp?"][..]),
        ("limit set smpt --burst 5", &["smpt", "did you mean smtp?"]),
        ("limit reset nothing", &["nothing", "submission"]),
        ("explain 10.1.0.1 --service smpt", &["smpt", "did you mean smtp?"]),
        ("block add 10.3.0.0/24 --service smpt", &["smpt", "did you mean smtp?"]),
        ("block remove 10.9.0.0/24", &["10.9.0.0/24 is not in block", "block show"]),
        ("trust add 10.2.0.0/24", &["10.2.0.0/24", "trust", "block"]),
        ("limit set smtp --rate 1000/s --burst 1", &["too small", "at least"]),
        ("confirm", &["nothing waits"]),
    ] {
        let said = site.refused(words, 1)?;
        ensure!(says.iter().all(|part| said.contains(part)), "`ratelimit {words}` said {said}");
    }
    for words in [
        "",
        "frobnicate",
        "mode maybe",
        "mode enforce --for soon",
        "mode enforce --for 1h --confirm 1h",
        "explain not-an-address",
        "explain",
        "limit set smtp",
        "limit set smtp --rate fast",
        "limit set smtp --burst 5 --level host",
        "block add 10.3.0.1/24",
        "block add ten",
        "run --mode sometimes",
        "status --unknown",
    ] {
        let said = site.refused(words, 2)?;
        ensure!(said.contains("Usage") || said.contains("--help"), "`ratelimit {words}` said {said}");
    }
    ensure!(site.controller.json(&["config", "show"])? == before, "something has changed");
    site.refused("explain 10.2.0.9", 3)?;
    site.run("explain 10.9.0.9")?;
    Ok(())
}
