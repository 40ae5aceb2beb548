//! A server of names that says what a test wants, zone by zone, and remembers what it was asked.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Names, PORT, deep,
    message::{A, Question, Record, Reply, TXT},
    reversed,
};

/// How long a thread waits before it looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);
const TTL: u32 = 300;
const NEGATIVE_TTL: u32 = 60;

/// What is said of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// What it lists, and of everything else that there is nothing.
    Lists,
    /// The same over TCP alone; over UDP that it does not fit.
    ListsOverTcp,
    /// It does not fit, and over TCP nobody answers.
    DoesNotFit,
    /// Nothing but this code (2 SERVFAIL, 5 REFUSED).
    Code(u8),
    /// Not a byte.
    Nothing,
    /// Bytes that are no message.
    Garbage,
    /// What it lists, of another name.
    OfAnotherName,
    /// What it lists, under another id.
    UnderAnotherId,
    /// These records, whoever is asked about.
    Everybody(Vec<Ipv4Addr>),
    /// What it lists, as an alias of a name with its records.
    ByAlias,
}

#[derive(Clone, Debug)]
struct Zone {
    says: Says,
    listed: HashMap<String, (Vec<Ipv4Addr>, u32)>,
    /// And whatever begins with this octet.
    listed_octet: Option<u8>,
}

#[derive(Debug, Default)]
struct State {
    zones: HashMap<String, Zone>,
    /// How often each name was asked for, with its type.
    asked: HashMap<(String, u16), u64>,
    delay: Duration,
}

/// The server, at port 53 of an address of the names' network, over UDP and TCP. Ends when dropped.
#[derive(Debug)]
pub struct Impostor {
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Impostor {
    pub fn start(names: &Names, server: Ipv4Addr) -> Result<Self> {
        let address = SocketAddr::from((server, PORT));
        let (udp, tcp) = names.namespace.enter(|| (UdpSocket::bind(address), TcpListener::bind(address)))?;
        let (udp, tcp) = (udp?, tcp?);
        deep(&udp)?;
        udp.set_read_timeout(Some(LOOK))?;
        tcp.set_nonblocking(true)?;
        let (state, is_over) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let late = Arc::new(Mutex::new(VecDeque::new()));
        let sender = udp.try_clone()?;
        let threads = vec![
            thread::spawn({
                let (state, is_over, late) = (Arc::clone(&state), Arc::clone(&is_over), Arc::clone(&late));
                move || serve_udp(&udp, &state, &late, &is_over)
            }),
            thread::spawn({
                let is_over = Arc::clone(&is_over);
                move || send_late(&sender, &late, &is_over)
            }),
            thread::spawn({
                let (state, is_over) = (Arc::clone(&state), Arc::clone(&is_over));
                move || serve_tcp(&tcp, &state, &is_over)
            }),
        ];
        Ok(Self { state, is_over, threads })
    }

    /// A zone with the test entries that every list has.
    pub fn zone(&self, zone: &str) {
        let mut listed = HashMap::new();
        for address in ["127.0.0.2", "::ffff:127.0.0.2"] {
            let address: IpAddr = address.parse().expect("an address");
            listed.insert(reversed(address), (vec![Ipv4Addr::new(127, 0, 0, 2)], TTL));
        }
        self.lock().zones.insert(zone.to_owned(), Zone { says: Says::Lists, listed, listed_octet: None });
    }

    pub fn say(&self, zone: &str, says: Says) {
        self.with(zone, |zone| zone.says = says);
    }

    pub fn list(&self, zone: &str, address: IpAddr, records: &[&str], ttl: u32) {
        let records = records.iter().map(|record| record.parse().expect("an address")).collect();
        self.with(zone, |zone| {
            zone.listed.insert(reversed(address), (records, ttl));
        });
    }

    /// Lists every IPv4 address that begins with an octet.
    pub fn list_all_of(&self, zone: &str, octet: u8) {
        self.with(zone, |zone| zone.listed_octet = Some(octet));
    }

    pub fn delist_all_of(&self, zone: &str) {
        self.with(zone, |zone| zone.listed_octet = None);
    }

    pub fn delist(&self, zone: &str, address: IpAddr) {
        self.with(zone, |zone| {
            zone.listed.remove(&reversed(address));
        });
    }

    /// How long it takes to answer over UDP.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// How often it was asked for addresses in a zone, test entries aside.
    pub fn asked(&self, zone: &str) -> u64 {
        let tests: HashSet<String> = ["127.0.0.1", "127.0.0.2", "::ffff:127.0.0.1", "::ffff:127.0.0.2"]
            .iter()
            .map(|test| name(test, zone))
            .collect();
        let end = format!(".{zone}");
        let state = self.lock();
        let concerned =
            state.asked.iter().filter(|((name, kind), _)| *kind == A && name.ends_with(&end) && !tests.contains(name));
        concerned.map(|(_, times)| times).sum()
    }

    /// How often it was asked anything of a zone.
    pub fn asked_in_all(&self, zone: &str) -> u64 {
        let end = format!(".{zone}");
        self.lock().asked.iter().filter(|((name, _), _)| name.ends_with(&end)).map(|(_, times)| times).sum()
    }

    /// How often it was asked about an address.
    pub fn asked_about(&self, zone: &str, address: IpAddr) -> u64 {
        let name = format!("{}.{zone}", reversed(address));
        self.lock().asked.get(&(name, A)).copied().unwrap_or(0)
    }

    fn with(&self, zone: &str, change: impl FnOnce(&mut Zone)) {
        change(self.lock().zones.get_mut(zone).expect("a zone that was made"));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn name(address: &str, zone: &str) -> String {
    format!("{}.{zone}", reversed(address.parse().expect("an address")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers that wait until they are due, the first at the front.
type Late = Mutex<VecDeque<(Instant, Vec<u8>, SocketAddr)>>;

fn serve_udp(socket: &UdpSocket, state: &Mutex<State>, late: &Late, is_over: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !is_over.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        let (answer, delay) = {
            let mut state = lock(state);
            (state.answer(&buffer[..length], false), state.delay)
        };
        match answer {
            Some(bytes) if delay.is_zero() => drop(socket.send_to(&bytes, peer)),
            Some(bytes) => lock(late).push_back((Instant::now() + delay, bytes, peer)),
            None => {}
        }
    }
}

fn send_late(socket: &UdpSocket, late: &Late, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let first = lock(late).front().map(|(due, _, _)| *due);
        let wait = first.map_or(Duration::from_millis(1), |due| due.saturating_duration_since(Instant::now()));
        if first.is_none() || !wait.is_zero() {
            thread::sleep(wait.min(Duration::from_millis(1)));
        } else if let Some((_, bytes, peer)) = lock(late).pop_front() {
            drop(socket.send_to(&bytes, peer));
        }
    }
}

fn serve_tcp(listener: &TcpListener, state: &Mutex<State>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => drop(converse(stream, state, is_over)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
}

/// One question after the other, until the asker leaves.
fn converse(mut stream: TcpStream, state: &Mutex<State>, is_over: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    while !is_over.load(Ordering::Relaxed) {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question)?;
        let Some(answer) = lock(state).answer(&question, true) else { return Ok(()) };
        stream.write_all(&(answer.len() as u16).to_be_bytes())?;
        stream.write_all(&answer)?;
    }
    Ok(())
}

impl State {
    /// `None`: nothing is sent.
    fn answer(&mut self, bytes: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
        let question = Question::read(bytes)?;
        *self.asked.entry((question.name.clone(), question.kind)).or_default() += 1;
        let labels = |zone: &&String| question.name.strip_suffix(zone.as_str())?.strip_suffix('.').map(str::to_owned);
        let found = self.zones.keys().find_map(|zone| Some((zone.clone(), labels(&zone)?)));
        let Some((zone_name, labels)) = found else {
            return Some(Reply { code: 5, ..Reply::default() }.bytes(&question));
        };
        let zone = self.zones.get(&zone_name)?;
        let nothing = Reply { code: 3, authority: vec![Record::soa(&zone_name, NEGATIVE_TTL)], ..Reply::default() };
        let of = |name: &str, records: &[Ipv4Addr], ttl: u32| match question.kind {
            TXT => vec![Record::txt(name, "listed by a test", ttl)],
            _ => records.iter().map(|record| Record::a(name, *record, ttl)).collect(),
        };
        let of_octet = zone.listed_octet.filter(|octet| labels.ends_with(&format!(".{octet}")));
        let of_octet = of_octet.map(|_| (vec![Ipv4Addr::new(127, 0, 0, 2)], TTL));
        let listed = zone.listed.get(&labels).or(of_octet.as_ref());
        let plain = listed.map_or_else(
            || nothing.clone(),
            |(records, ttl)| Reply { records: of(&question.name, records, *ttl), ..Reply::default() },
        );
        let does_not_fit = Reply { is_truncated: true, ..Reply::default() };
        let reply = match &zone.says {
            Says::Nothing => return None,
            Says::Garbage => return Some(vec![0xff; 40]),
            Says::Code(code) => Reply { code: *code, ..Reply::default() },
            Says::Lists => plain,
            Says::ListsOverTcp if is_tcp => plain,
            Says::DoesNotFit if is_tcp => return None,
            Says::ListsOverTcp | Says::DoesNotFit => does_not_fit,
            Says::OfAnotherName => match listed {
                Some((records, ttl)) => Reply { records: of("somebody.else.test", records, *ttl), ..Reply::default() },
                None => plain,
            },
            Says::UnderAnotherId => {
                return Some(plain.bytes(&Question { id: question.id ^ 0x5555, ..question.clone() }));
            }
            Says::Everybody(records) => Reply { records: of(&question.name, records, TTL), ..Reply::default() },
            Says::ByAlias => match listed {
                Some((records, ttl)) => {
                    let target = format!("target.{zone_name}");
                    let mut all = vec![Record::cname(&question.name, &target, *ttl)];
                    all.extend(of(&target, records, *ttl));
                    Reply { records: all, ..Reply::default() }
                }
                None => plain,
            },
        };
        Some(reply.bytes(&question))
    }
}
