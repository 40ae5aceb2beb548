//! What changes by itself: the machine, its surroundings, and where administrators come from.

use std::{net::IpAddr, time::SystemTime};

use super::{Controller, Rejection};
use crate::{
    config::{Config, Network, fold_address},
    guard::NeverBlock,
    interface::Interface,
    machine::Machine,
};

impl Controller {
    /// Follows the machine's addresses, gateways and resolvers, peers that are no longer remembered, and interfaces that went
    /// and came back.
    pub fn follow_machine(&mut self) -> Result<(), Rejection> {
        let machine = Machine::look(&self.effective, &self.machine.backlogs)?;
        let interfaces: Vec<Interface> =
            self.interfaces.iter().filter_map(|known| Interface::find(&known.name).ok()).collect();
        let came_back = interfaces
            .iter()
            .any(|found| self.interfaces.iter().any(|known| known.name == found.name && known.index != found.index));
        if came_back {
            tracing::warn!("an interface was made anew, attaching to it");
            return self.put_in_force(self.loaded.clone(), self.changes.clone(), interfaces);
        }
        if machine != self.machine || self.never_block_on(&machine) != self.never_block {
            tracing::info!(
                addresses = machine.own_addresses.len(),
                gateways = machine.gateways.len(),
                resolvers = machine.resolvers.len(),
                "the machine, or what it needs, has changed"
            );
            self.put_in_force(self.loaded.clone(), self.changes.clone(), self.interfaces.clone())?;
        }
        Ok(())
    }

    /// Remembers where an administrator comes from; nothing blocks him from now on. What fails is said in the log alone: it
    /// must not keep him from his answer.
    pub fn note_peer(&mut self, peer: IpAddr) {
        match self.bans.note_peer(peer, SystemTime::now()) {
            Ok(false) => return,
            Ok(true) => tracing::info!(%peer, "an administrator's SSH connection comes from there: never blocked"),
            Err(error) => tracing::warn!(%peer, "an administrator's peer is forgotten at the next start: {error}"),
        }
        if self.never_block_on(&self.machine) != self.never_block {
            let spared = self.put_in_force(self.loaded.clone(), self.changes.clone(), self.interfaces.clone());
            if let Err(error) = spared {
                tracing::error!(%peer, "an administrator's peer is not spared by lists yet: {error}");
            }
        }
    }

    /// What is never blocked as the machine is, and by whom it was administered of late.
    pub(super) fn never_block_on(&self, machine: &Machine) -> NeverBlock {
        self.never_block_by(&self.effective, machine)
    }

    /// The same by a configuration that is not in force yet.
    pub(super) fn never_block_by(&self, config: &Config, machine: &Machine) -> NeverBlock {
        never_block(config, machine, &self.bans.peers(SystemTime::now()))
    }
}

/// What is never blocked by a configuration: also whom DNSBLs are asked through.
pub(super) fn never_block(config: &Config, machine: &Machine, peers: &[IpAddr]) -> NeverBlock {
    let resolvers = config.reputation.resolvers.iter().map(|resolver| Network::host(fold_address(resolver.ip())));
    let configured: Vec<Network> = config.never_block.iter().copied().chain(resolvers).collect();
    NeverBlock::of(machine, peers, &configured)
}
