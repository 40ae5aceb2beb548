//! Questions to resolvers.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType},
    },
    system_conf::read_system_conf,
};

/// Where hickory-resolver finds the system's resolvers.
const SYSTEM: &str = "/etc/resolv.conf";
/// Links of aliases that are followed in one answer.
const LONGEST_CHAIN: usize = 8;
/// Resolvers that share the time of a question; what is left to each must be enough for an answer.
const MOST_TRIED: usize = 3;

/// Asks the resolvers of the configuration or of the system, over UDP, and over TCP where an answer did not fit.
#[derive(Clone, Debug)]
pub struct Asker {
    resolver: TokioResolver,
    timeout: Duration,
    /// When the list of the system's resolvers was changed that is in use; none if the configuration names them.
    of_system: Option<Option<SystemTime>>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A records, and for how long they are good.
    Records {
        records: Vec<Ipv4Addr>,
        ttl: Duration,
    },
    /// There are none, which is good for so long; not always said.
    Nothing {
        ttl: Option<Duration>,
    },
    Failed(Failure),
}

/// Why there is no answer. It says nothing about the address, and never holds the name that was asked for: a key may be in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no answer within {} ms: check that the resolver runs and reaches the zone", .0.as_millis())]
    Timeout(Duration),
    #[error("SERVFAIL: the servers of the zone do not answer the resolver, or not as they should")]
    ServFail,
    #[error("REFUSED: the resolver does not answer this machine, or the zone's servers do not answer the resolver")]
    Refused,
    #[error("the resolver answers {0}: check its configuration")]
    Code(String),
    #[error("no resolver can be reached ({0}): check that it runs and the way to it")]
    Unreachable(String),
    #[error("what the resolver sends is no answer to the question: check what stands at its address")]
    Garbled,
}

#[derive(Debug, thiserror::Error)]
#[error("the resolvers of this machine cannot be found out ({0}): name some with `resolvers` in [reputation]")]
pub struct AskerError(NetError);

impl Asker {
    /// `resolvers` empty: those of the system. An answer comes within `timeout` or not at all.
    pub fn new(resolvers: &[SocketAddr], timeout: Duration) -> Result<Self, AskerError> {
        let of_system = resolvers.is_empty().then(changed_at);
        let config = match resolvers {
            [] => read_system_conf().map_err(AskerError)?.0,
            _ => {
                let servers = resolvers.iter().map(|resolver| server(*resolver)).collect();
                ResolverConfig::from_parts(None, Vec::new(), servers)
            }
        };
        let servers = config.name_servers().len().clamp(1, MOST_TRIED);
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        // Answers are kept by their address, with bounds of their own.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ndots = 0;
        // A budget counts questions, so none is asked twice while it may still be answered: one resolver after the other,
        // each for its part of the time. The attempts here are those after the first one.
        options.num_concurrent_reqs = 1;
        options.timeout = timeout / servers as u32;
        options.attempts = servers - 1;
        options.max_active_requests = usize::MAX;
        Ok(Self { resolver: builder.build().map_err(AskerError)?, timeout, of_system })
    }

    /// The A records of a name.
    pub async fn ask(&self, name: &str) -> Answer {
        self.ask_by(name, Instant::now() + self.timeout).await
    }

    /// The same until a moment.
    pub async fn ask_by(&self, name: &str, deadline: Instant) -> Answer {
        let Ok(name) = Name::from_ascii(name) else {
            return Answer::Failed(Failure::Garbled);
        };
        match tokio::time::timeout_at(deadline.into(), self.resolver.lookup(name.clone(), RecordType::A)).await {
            Ok(Ok(lookup)) => records_of(&name, lookup.answers()),
            Ok(Err(error)) => self.without_records(error),
            Err(_) => Answer::Failed(Failure::Timeout(self.timeout)),
        }
    }

    /// Whether the system has other resolvers by now.
    pub fn is_outdated(&self) -> bool {
        self.of_system.is_some_and(|changed| changed != changed_at())
    }

    fn without_records(&self, error: NetError) -> Answer {
        let failure = match error {
            NetError::Dns(DnsError::NoRecordsFound(found)) => match found.response_code {
                ResponseCode::NXDomain | ResponseCode::NoError => {
                    return Answer::Nothing { ttl: found.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())) };
                }
                code => failure_of(code),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => failure_of(code),
            NetError::Timeout => Failure::Timeout(self.timeout),
            NetError::NoConnections => Failure::Unreachable("no connection".to_owned()),
            NetError::Io(error) => Failure::Unreachable(error.to_string()),
            _ => Failure::Garbled,
        };
        Answer::Failed(failure)
    }

    /// What a zone says of a listing, for humans. Nothing where it says nothing.
    pub async fn text(&self, name: &str) -> Option<String> {
        const LONGEST: usize = 255;
        let name = Name::from_ascii(name).ok()?;
        let asked = tokio::time::timeout(self.timeout, self.resolver.lookup(name, RecordType::TXT)).await;
        let lookup = asked.ok()?.ok()?;
        let text = lookup.answers().iter().find_map(|record| match &record.data {
            RData::TXT(text) => Some(text.to_string()),
            _ => None,
        })?;
        // It is somebody else's text, on its way to a terminal.
        Some(text.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect())
    }
}

/// When the system's list of resolvers was changed.
fn changed_at() -> Option<SystemTime> {
    std::fs::metadata(SYSTEM).and_then(|file| file.modified()).ok()
}

fn failure_of(code: ResponseCode) -> Failure {
    match code {
        ResponseCode::ServFail => Failure::ServFail,
        ResponseCode::Refused => Failure::Refused,
        other => Failure::Code(other.to_string()),
    }
}

fn server(resolver: SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = resolver.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    NameServerConfig::new(resolver.ip(), true, connections)
}

/// The records of a name or of what it is an alias of; those of other names are nobody's.
fn records_of(name: &Name, answers: &[Record]) -> Answer {
    let mut names = HashSet::from([name.clone()]);
    let mut last = name.clone();
    let mut ttl = u32::MAX;
    for _ in 0..LONGEST_CHAIN {
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == last => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias.filter(|(target, _)| names.insert(target.clone())) else { break };
        ttl = ttl.min(alias_ttl);
        last = target;
    }
    let mut records = Vec::new();
    for record in answers.iter().filter(|record| record.name == last) {
        if let RData::A(address) = &record.data {
            ttl = ttl.min(record.ttl);
            records.push(address.0);
        }
    }
    match records.is_empty() {
        true => Answer::Nothing { ttl: None },
        false => Answer::Records { records, ttl: Duration::from_secs(ttl.into()) },
    }
}
