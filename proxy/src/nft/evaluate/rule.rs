//! What one statement of a rule does to a packet.

use super::travel::{End, Travel};
use super::{Fault, Hit};
use heddle_netlink::nft::{
    Cells, Data, DataType, End as Side, Field, Name, Sense, Set, Statement, Table, TableFamily, Type,
};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, SocketAddr};

/// Where it goes on after a statement.
#[derive(Debug)]
pub(super) enum Step {
    /// With the next statement.
    Next,
    /// With the next rule: something did not match.
    NoMatch,
    /// With the next base chain.
    Accept,
    /// With another chain.
    Goto(Name),
}

fn matched(yes: bool) -> Step {
    if yes { Step::Next } else { Step::NoMatch }
}

impl<'a> Travel<'a> {
    pub(super) fn statement(
        &mut self,
        table: &'a Table,
        chain: &Name,
        statement: &'a Statement,
    ) -> Result<Step, End> {
        Ok(match statement {
            // A packet without a connection is not the first of one.
            Statement::StateNew => matched(!self.untracked),
            Statement::Notrack => self.leave_untracked(),
            Statement::StatusDnat => matched(self.destination_translated),
            Statement::Address(side, sense, network) => self.is_in(*side, *sense, *network),
            Statement::Port(protocol, port) => {
                matched(self.packet.protocol == *protocol && self.packet.port == *port)
            }
            Statement::Iif(sense, name) => matched(self.came_in_by(name) == (*sense == Sense::Is)),
            Statement::Local(side, sense) => {
                matched(self.is_local(self.address(*side)) == (*sense == Sense::Is))
            }
            Statement::HasLabel(label) => matched(self.labels.contains(label)),
            Statement::SetLabel(label) => {
                self.labels.insert(*label);
                Step::Next
            }
            Statement::InSet(key, set) => matched(self.lookup(table, key, set)?.is_some()),
            Statement::NotInSet(key, set) => matched(self.lookup(table, key, set)?.is_none()),
            Statement::Vmap(key, map) => match self.lookup(table, key, map)? {
                None => Step::NoMatch,
                Some(Data::Goto(target)) => Step::Goto(target),
                Some(Data::None | Data::Cells(_) | Data::Until(_)) => {
                    return Err(Fault::NotAVerdict { set: map.clone() }.into());
                }
            },
            Statement::SetCtMark(key, map) => match self.lookup(table, key, map)? {
                None => Step::NoMatch,
                Some(data) => {
                    let mark = if let Data::Cells(cells) = data { mark_of(&cells) } else { None };
                    self.mark = mark.ok_or_else(|| Fault::NotAMark { set: map.clone() })?;
                    Step::Next
                }
            },
            Statement::Remember(key, data, map, _) => {
                // An element that is there keeps its data.
                if self.lookup(table, key, map)?.is_none() {
                    let (key, data) = (self.load_all(key), Data::Cells(self.load_all(data)));
                    self.remembered.push((map.clone(), key, data));
                }
                Step::Next
            }
            Statement::Dnat(key, map) => match self.lookup(table, key, map)? {
                None => Step::NoMatch,
                Some(data) => {
                    let endpoint = endpoint(&data, table.family);
                    self.translate(endpoint.ok_or_else(|| Fault::NotAnEndpoint { set: map.clone() })?);
                    Step::Accept
                }
            },
            Statement::Masquerade => {
                self.source_translated = true;
                Step::Accept
            }
            Statement::Reject => return Err(End::Rejected),
            Statement::Drop => return Err(End::Dropped),
            Statement::Goto(target) => Step::Goto(target.clone()),
            Statement::Foreign => return Err(Fault::Foreign { chain: chain.clone() }.into()),
        })
    }

    fn leave_untracked(&mut self) -> Step {
        self.untracked = true;
        Step::Next
    }

    fn translate(&mut self, to: SocketAddr) {
        self.packet.destination = to.ip();
        self.packet.port = to.port();
        self.destination_translated = true;
    }

    fn address(&self, side: Side) -> IpAddr {
        match side {
            Side::Source => self.packet.source,
            Side::Destination => self.packet.destination,
        }
    }

    fn is_in(&self, side: Side, sense: Sense, network: IpNetwork) -> Step {
        matched(network.contains(self.address(side)) == (sense == Sense::Is))
    }

    /// What has come in by no interface has the empty name (`nft_meta_get_eval` stores zeros).
    fn came_in_by(&self, name: &str) -> bool {
        let own = self.packet.in_interface.as_deref().unwrap_or("");
        name.strip_suffix('*').map_or(own == name, |prefix| own.starts_with(prefix))
    }

    fn lookup(&mut self, table: &'a Table, key: &[Field], name: &'a Name) -> Result<Option<Data>, Fault> {
        for field in key {
            if let Field::Random(bound) = field {
                self.choices = self.choices.max(*bound);
            }
        }
        let set: &Set = table.sets.get(name).ok_or_else(|| Fault::NoSet { set: name.clone() })?;
        let key = self.load_all(key);
        let holds = |start: &Cells, data: &Data| match data {
            Data::Until(end) => is_between(&set.kind.key, &key, (start, end)),
            Data::None | Data::Goto(_) | Data::Cells(_) => false,
        };
        let found = match set.kind.data {
            DataType::Ranges => set.elements.iter().find(|(start, data)| holds(start, data)),
            DataType::None | DataType::Verdict | DataType::Cells(_) => {
                set.elements.get(&key).map(|data| (key, data))
            }
        };
        let hit = |(key, data)| Hit { set: name, kind: &set.kind, key, data };
        self.hits.extend(found.clone().map(hit));
        Ok(found.map(|(_, data)| data))
    }

    fn load_all(&self, fields: &[Field]) -> Cells {
        fields.iter().fold(Cells::default(), |cells, field| self.load(cells, *field))
    }

    fn load(&self, cells: Cells, field: Field) -> Cells {
        match field {
            Field::Saddr => cells.address(self.packet.source),
            Field::Daddr => cells.address(self.packet.destination),
            Field::L4Proto => cells.protocol(self.packet.protocol.number()),
            Field::Dport => cells.port(self.packet.port),
            Field::CtMark => cells.mark(self.mark),
            Field::Random(modulus) => cells.slot(self.draw.checked_rem(modulus).unwrap_or(0)),
        }
    }
}

/// A connection's mark out of a map.
fn mark_of(cells: &Cells) -> Option<u32> {
    cells.as_bytes().try_into().ok().map(u32::from_ne_bytes)
}

/// Each cell by itself is within its bounds, as the kernel's set of ranges has it (`nft_set_pipapo`).
fn is_between(types: &[Type], key: &Cells, (start, end): (&Cells, &Cells)) -> bool {
    let mut from = 0;
    types.iter().all(|kind| {
        let cell = from..from + kind.width();
        from = cell.end;
        let [low, value, high] = [start, key, end].map(|cells| cells.as_bytes().get(cell.clone()));
        low <= value && value <= high
    })
}

/// An address and a port out of a map.
fn endpoint(data: &Data, family: TableFamily) -> Option<SocketAddr> {
    let Data::Cells(cells) = data else { return None };
    let (address, port): (IpAddr, &[u8]) = match family {
        TableFamily::Ip => {
            let (address, port) = cells.as_bytes().split_first_chunk::<4>()?;
            ((*address).into(), port)
        }
        TableFamily::Ip6 => {
            let (address, port) = cells.as_bytes().split_first_chunk::<16>()?;
            ((*address).into(), port)
        }
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(*port.first_chunk()?)))
}
