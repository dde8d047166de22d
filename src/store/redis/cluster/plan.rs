//! One read of a cluster without its connections: which key goes to which node, whose reply is
//! waited for, what a reply means, what becomes of a key that was redirected. Rows are given to
//! the sink in the order of the keys, straight from where they were received; only where a key
//! was redirected are the replies behind it kept until its own has come.
//!
//! Pure. A driver does what [`Plan::next`] says, until everything is done or an attempt fails;
//! then the plan goes on from where it is.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::codec::{CommandBuffer, Reply, ReplyParser};
use super::super::options::Address;
use super::super::read_job::{Position, ReadJob, Slots, Taken, reuse};
use super::super::refusal;
use super::lane::{Lane, Question, Sent};
use super::redirect::Redirect;
use super::slot::slot_of;
use super::slot_map::SlotMap;
use crate::error::{Error, ErrorKind};
use crate::store::RowSink;

/// A key that was sent on so often is tried again later: the nodes do not agree.
const MAX_REDIRECTS: u32 = 8;

/// Lanes are spoken of by their index: the first is 0, and more are added behind the last.
pub(super) struct Plan<'a> {
    job: ReadJob<'a>,
    // Every key, in the order of the rows; all else speaks of them by their index here.
    keys: Vec<Position>,
    // For each key the lane that is to answer it.
    lane_of: Vec<usize>,
    // The first key whose rows the sink does not have.
    next: usize,
    lanes: Vec<Lane>,
    // Replies that came before their turn.
    kept: HashMap<usize, Kept>,
    // Keys that are in no lane.
    orphans: Vec<Question>,
    // Lanes have questions that nobody looked at, or there are orphans.
    must_send: bool,
    // A lane that was redirected: very likely its node lacks others, too, that it was asked
    // for. All its answers are taken first, so that those keys travel on together.
    draining: Option<usize>,
    // Why keys that the draining lane gives back are not to be sent on at once.
    later: Option<Error>,
    redirects: HashMap<usize, u32>,
    reads_replicas: bool,
    // Replicas that did not serve this read.
    avoided: Vec<Address>,
    turn: usize,
    spare: Slots<'static>,
}

/// What a driver has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Call [`Plan::assign`], connect the lanes and send each its chunk.
    Send,
    /// Receive a reply in this lane, after its next chunk was sent; give it to
    /// [`Plan::answer`].
    Answer(usize),
    /// Call [`Plan::take_kept`].
    Kept,
    /// Nothing: the sink has all rows.
    Nothing,
}

/// What a reply has brought about beside rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    On,
    /// The cluster's map is wrong about a slot.
    Moved {
        slot: u16,
        to: Address,
    },
    /// There are no lanes any more, and whatever is under way must never be looked at: it was
    /// asked for with a command that is not used any more.
    StartAgain,
}

/// Why an attempt ended.
pub(super) struct Failure {
    pub(super) error: Error,
    /// The lane that is of no use any more; `None` where the nodes answered, but not with rows.
    pub(super) lane: Option<usize>,
}

pub(super) type Attempt<T> = std::result::Result<T, Failure>;

/// A reply out of its buffer.
struct Kept {
    bytes: Vec<u8>,
    node: Arc<str>,
}

impl<'a> Plan<'a> {
    /// `turn` chooses among the nodes of a shard where `reads_replicas`.
    pub(super) fn new(job: ReadJob<'a>, reads_replicas: bool, turn: usize) -> Self {
        let keys: Vec<Position> =
            std::iter::successors(job.first(), |position| job.after(*position)).collect();
        Plan {
            job,
            lane_of: vec![usize::MAX; keys.len()],
            orphans: (0..keys.len()).map(|index| Question { index, is_asking: false }).collect(),
            keys,
            next: 0,
            lanes: Vec::new(),
            kept: HashMap::new(),
            must_send: true,
            draining: None,
            later: None,
            redirects: HashMap::new(),
            reads_replicas,
            avoided: Vec::new(),
            turn,
            spare: Slots::new(),
        }
    }

    /// Whether a node refused HGETALL and HMGET was used instead.
    pub(super) fn has_given_up_hgetall(&self) -> bool {
        self.job.has_given_up_hgetall()
    }

    /// Of how many keys the sink has the rows.
    pub(super) fn progress(&self) -> usize {
        self.next
    }

    /// The lanes' nodes and what is to be asked of them.
    pub(super) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// What is to be done. Fails, for no fault of a lane's, where keys can't be sent on now.
    pub(super) fn next(&mut self) -> Attempt<Next> {
        if let Some(lane) = self.draining {
            if self.lanes.get(lane).is_some_and(Lane::is_waiting) {
                return Ok(Next::Answer(lane));
            }
            self.drained(lane)?;
        }
        if self.next >= self.keys.len() {
            return Ok(Next::Nothing);
        }
        if self.must_send {
            return Ok(Next::Send);
        }
        // Mostly there are none, and then nothing is to be looked up.
        if !self.kept.is_empty() && self.kept.contains_key(&self.next) {
            return Ok(Next::Kept);
        }
        self.lane_of.get(self.next).copied().map(Next::Answer).ok_or_else(lost_track)
    }

    fn drained(&mut self, lane: usize) -> Attempt<()> {
        self.draining = None;
        self.must_send = true;
        if let Some(lane) = self.lanes.get_mut(lane) {
            self.orphans.extend(lane.take_unsent());
        }
        match self.later.take() {
            Some(error) => Err(in_general(error)),
            None => Ok(()),
        }
    }

    /// Gives each key that is in no lane to the lane of the node that has its slot.
    pub(super) fn assign(&mut self, map: &SlotMap) -> Attempt<()> {
        let mut unserved = None;
        let mut lane_of_shard = vec![None; map.shards().len()];
        for Question { index, .. } in std::mem::take(&mut self.orphans) {
            let question = Question { index, is_asking: false };
            let Some(&position) = self.keys.get(index) else { continue };
            let (key, project) = self.job.key(position);
            let slot = slot_of(key, project);
            let Some(shard) = map.shard_index(slot) else {
                unserved = Some(slot);
                self.orphans.push(question);
                continue;
            };
            let known = lane_of_shard.get(shard).copied().flatten();
            let Some(lane) = known.or_else(|| self.lane_for(map, shard)) else {
                return Err(lost_track());
            };
            if let Some(entry) = lane_of_shard.get_mut(shard) {
                *entry = Some(lane);
            }
            self.ask(lane, question);
        }
        // Those to be asked for first come first: the rows wait for them.
        self.lanes.iter_mut().for_each(Lane::sort);
        if let Some(slot) = unserved {
            return Err(in_general(Error::new(
                ErrorKind::StoreUnavailable,
                format!("no node of the Redis Cluster serves slot {slot} now"),
            )));
        }
        self.must_send = false;
        Ok(())
    }

    /// The lane to the node of a shard that this read asks.
    fn lane_for(&mut self, map: &SlotMap, shard: usize) -> Option<usize> {
        let shard = map.shards().get(shard)?;
        if !self.reads_replicas {
            return Some(self.lane_to(&shard.master));
        }
        let all = std::iter::once(&shard.master).chain(&shard.replicas);
        let willing: Vec<&Address> = all.filter(|node| !self.avoided.contains(node)).collect();
        let chosen = willing.get(self.turn % willing.len().max(1)).copied();
        Some(self.lane_to(chosen.unwrap_or(&shard.master)))
    }

    /// The lane to a node, a new one if need be.
    fn lane_to(&mut self, address: &Address) -> usize {
        let known = self.lanes.iter().position(|lane| lane.address() == address);
        known.unwrap_or_else(|| {
            self.lanes.push(Lane::new(address.clone()));
            self.lanes.len() - 1
        })
    }

    fn ask(&mut self, lane: usize, question: Question) {
        if let (Some(entry), Some(asked)) =
            (self.lane_of.get_mut(question.index), self.lanes.get_mut(lane))
        {
            *entry = lane;
            asked.add(question);
        }
    }

    /// Takes the lane's next chunk, for about `most_fields` fields of hashes at most, as sent and
    /// appends its commands to `commands`; the name of the last one.
    pub(super) fn next_chunk(
        &mut self,
        lane: usize,
        most_fields: usize,
        commands: &mut CommandBuffer,
    ) -> &'static str {
        let Some(lane) = self.lanes.get_mut(lane) else { return "" };
        lane.next_chunk(&self.job, &self.keys, most_fields, commands)
    }

    /// Takes the next reply of a lane, whose node is called `node` in messages.
    pub(super) fn answer(
        &mut self,
        lane: usize,
        reply: Reply<'_>,
        node: &Arc<str>,
        sink: &mut dyn RowSink,
    ) -> Attempt<Step> {
        let asked = self.lanes.get_mut(lane).ok_or_else(lost_track)?;
        let index = match asked.answered() {
            Some(Sent::Key(index)) => index,
            Some(Sent::Asking) => {
                return match reply.error() {
                    Some(text) => Err(at(lane)(refusal::refused(node, "ASKING", text))),
                    None => Ok(Step::On),
                };
            }
            None => return Err(nothing_asked(node)),
        };
        if let Some(text) = reply.error()
            && let Some(redirect) = Redirect::parse(text, asked.address())
        {
            return Ok(self.redirected(lane, index, redirect, || sent_on(node, text)));
        }
        if index != self.next {
            self.kept.insert(index, Kept { bytes: reply.bytes().to_vec(), node: node.clone() });
            return Ok(Step::On);
        }
        let mut slots = reuse(std::mem::take(&mut self.spare));
        let step = self.take(reply, &mut slots, node, sink);
        self.spare = reuse(slots);
        step
    }

    /// Takes the reply for the next key, which came before its turn.
    pub(super) fn take_kept(&mut self, sink: &mut dyn RowSink) -> Attempt<Step> {
        let kept = self.kept.remove(&self.next).ok_or_else(lost_track)?;
        let mut parser = ReplyParser::default();
        if parser.advance(&kept.bytes) != Ok(Some(kept.bytes.len())) {
            return Err(lost_track());
        }
        self.take(parser.reply(&kept.bytes), &mut Slots::new(), &kept.node, sink)
    }

    fn take<'r>(
        &mut self,
        reply: Reply<'r>,
        slots: &mut Slots<'r>,
        node: &str,
        sink: &mut dyn RowSink,
    ) -> Attempt<Step> {
        let &position = self.keys.get(self.next).ok_or_else(lost_track)?;
        match self.job.take(position, reply, slots, sink, node) {
            Ok(Taken::Row) => {
                self.next += 1;
                Ok(Step::On)
            }
            Ok(Taken::HgetallWithheld) => {
                self.start_again_with_hmget();
                Ok(Step::StartAgain)
            }
            Err(error) => {
                self.orphans.push(Question { index: self.next, is_asking: false });
                self.must_send = true;
                Err(in_general(error))
            }
        }
    }

    /// A node refused HGETALL. Whatever is under way was asked for with it, and would be taken
    /// for something else now.
    fn start_again_with_hmget(&mut self) {
        self.job.give_up_hgetall();
        self.lanes.clear();
        self.kept.clear();
        (self.draining, self.later, self.must_send) = (None, None, true);
        let left = self.next..self.keys.len();
        self.orphans = left.map(|index| Question { index, is_asking: false }).collect();
    }

    /// Sends one key on, or keeps it for later, of which `error` tells.
    fn redirected(
        &mut self,
        lane: usize,
        index: usize,
        redirect: Redirect,
        error: impl FnOnce() -> Error,
    ) -> Step {
        self.draining = Some(lane);
        let times = self.redirects.entry(index).or_default();
        *times += 1;
        let is_in_circles = *times > MAX_REDIRECTS;
        if is_in_circles {
            *times = 0;
        }
        let is_for_later = is_in_circles || redirect == Redirect::Later;
        let step = match redirect {
            Redirect::Ask { to } if !is_in_circles => {
                let lane = self.lane_to(&to);
                self.ask(lane, Question { index, is_asking: true });
                return Step::On;
            }
            Redirect::Ask { .. } => Step::On,
            Redirect::Moved { slot, to } => Step::Moved { slot, to },
            Redirect::Later => {
                self.avoid(lane);
                Step::On
            }
        };
        self.orphans.push(Question { index, is_asking: false });
        if is_for_later {
            self.later = Some(error());
        }
        step
    }

    /// Takes back what a lane was to answer: its connection broke, or it never had one. A
    /// replica that `is_suspect` is not read from again.
    pub(super) fn lose(&mut self, lane: usize, is_suspect: bool) {
        (self.draining, self.later, self.must_send) = (None, None, true);
        if let Some(lane) = self.lanes.get_mut(lane) {
            self.orphans.extend(lane.abandon());
        }
        if is_suspect {
            self.avoid(lane);
        }
    }

    fn avoid(&mut self, lane: usize) {
        let Some(address) = self.lanes.get(lane).map(Lane::address) else { return };
        if self.reads_replicas && !self.avoided.contains(address) {
            self.avoided.push(address.clone());
        }
    }
}

/// Why a key is not sent on: what its node last said.
#[cold]
fn sent_on(node: &str, text: &[u8]) -> Error {
    if !(text.starts_with(b"MOVED") || text.starts_with(b"ASK")) {
        return refusal::refused(node, "a read", text);
    }
    let text = text.escape_ascii();
    Error::new(
        ErrorKind::StoreUnavailable,
        format!("the nodes of the Redis Cluster send each other a key; {node} last said {text}"),
    )
}

/// Makes a failure of a lane's out of an error.
pub(super) fn at(lane: usize) -> impl Fn(Error) -> Failure {
    move |error| Failure { error, lane: Some(lane) }
}

/// Makes a failure that no lane is to blame for out of an error.
pub(super) fn in_general(error: Error) -> Failure {
    Failure { error, lane: None }
}

#[cold]
pub(super) fn lost_track() -> Failure {
    in_general(Error::new(ErrorKind::Internal, "a key of a read is in no lane of the cluster"))
}

#[cold]
fn nothing_asked(node: &str) -> Failure {
    let message = format!("a reply of {node} was awaited that nobody asked for");
    in_general(Error::new(ErrorKind::Internal, message))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use proptest::prelude::*;

    use super::super::super::read_layout::ReadLayout;
    use super::*;
    use crate::config::ReadCommand;
    use crate::store::{StoredFeature, StoredGroup, StoredView};
    use crate::value::PackedBytes;

    const PROJECT: &[u8] = b"proj";

    fn node(port: u16) -> Address {
        Address::Tcp { host: "h".to_owned(), port }
    }

    fn layout() -> ReadLayout {
        let feature = StoredFeature { name: "f".to_owned(), field: *b"fiel" };
        let view = StoredView {
            ttl_micros: None,
            name: "v".to_owned(),
            features: vec![feature],
            timestamp_field: b"_ts:v".to_vec(),
        };
        let group = StoredGroup { views: vec![view], expected_fields: 2 };
        ReadLayout::new(&group, ReadCommand::Hmget)
    }

    /// All slots at node 1, as a map that is old may have it.
    fn old_map() -> SlotMap {
        let text = b"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$1\r\nh\r\n:1\r\n$2\r\nid\r\n";
        let mut parser = ReplyParser::default();
        assert_eq!(parser.advance(text), Ok(Some(text.len())));
        SlotMap::parse(parser.reply(text), &node(1)).unwrap()
    }

    /// What became of a slot that the old map has at node 1.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Stays,
        /// It is at node 2.
        Moved,
        /// Its keys are at node 3 already, which does not own it yet.
        Moving,
        /// Both nodes can't tell, the first time.
        Unsure,
    }

    /// Nodes that answer as Redis does.
    struct Nodes {
        fates: Vec<Fate>,
        told: HashSet<Vec<u8>>,
    }

    impl Nodes {
        fn fate(&self, slot: u16) -> Fate {
            self.fates[usize::from(slot) % self.fates.len()]
        }

        fn answer(&mut self, asked: &Address, key: &[u8], is_asking: bool) -> Vec<u8> {
            let slot = slot_of(key, b"");
            let owner = if matches!(self.fate(slot), Fate::Moved) { 2 } else { 1 };
            if matches!(self.fate(slot), Fate::Unsure) && self.told.insert(key.to_vec()) {
                return b"-TRYAGAIN not yet\r\n".to_vec();
            }
            if matches!(self.fate(slot), Fate::Moving) {
                if *asked == node(1) {
                    return format!("-ASK {slot} h:3\r\n").into_bytes();
                }
                if *asked == node(3) && is_asking {
                    return row(key);
                }
            } else if *asked == node(owner) {
                return row(key);
            }
            format!("-MOVED {slot} h:{owner}\r\n").into_bytes()
        }
    }

    fn row(key: &[u8]) -> Vec<u8> {
        let head = format!("*2\r\n$2\r\n\u{8}\u{7}\r\n${}\r\n", key.len());
        [head.as_bytes(), key, b"\r\n"].concat()
    }

    #[derive(Default)]
    struct Values(Vec<Vec<u8>>);

    impl RowSink for Values {
        fn row(
            &mut self,
            _: usize,
            _: usize,
            timestamp: Option<i64>,
            values: &[Option<&[u8]>],
        ) -> crate::Result<()> {
            assert_eq!(timestamp, Some(7_000_000));
            self.0.push(values[0].unwrap().to_vec());
            Ok(())
        }
    }

    /// A driver whose nodes are in memory. `lost` says before which replies connections break.
    fn drive(plan: &mut Plan<'_>, nodes: &mut Nodes, mut lost: VecDeque<bool>) -> Values {
        let (mut map, mut values) = (old_map(), Values::default());
        let mut replies: HashMap<usize, VecDeque<Vec<u8>>> = HashMap::new();
        let mut failures = 0;
        loop {
            let step = match plan.next() {
                Ok(Next::Nothing) => return values,
                Ok(Next::Send) => plan.assign(&map).map(|()| Step::On),
                Ok(Next::Kept) => plan.take_kept(&mut values),
                Ok(Next::Answer(lane)) => {
                    if plan.lanes()[lane].is_sending() {
                        let mut commands = CommandBuffer::default();
                        plan.next_chunk(lane, usize::MAX, &mut commands);
                        let answers = answers(nodes, plan.lanes()[lane].address(), &commands);
                        replies.entry(lane).or_default().extend(answers);
                    }
                    if lost.pop_front().unwrap_or_default() {
                        replies.remove(&lane);
                        plan.lose(lane, true);
                        continue;
                    }
                    let bytes = replies.get_mut(&lane).and_then(VecDeque::pop_front).unwrap();
                    let mut parser = ReplyParser::default();
                    assert_eq!(parser.advance(&bytes), Ok(Some(bytes.len())));
                    plan.answer(lane, parser.reply(&bytes), &"h".into(), &mut values)
                }
                Err(failure) => Err(failure),
            };
            match step {
                Ok(Step::On) => {}
                Ok(Step::Moved { slot, to }) => map = map.with_moved(slot, &to),
                Ok(Step::StartAgain) => unreachable!("nobody refuses a command"),
                Err(failure) => {
                    assert_eq!(failure.error.kind(), ErrorKind::StoreUnavailable);
                    failures += 1;
                    assert!(failures < 1000, "it never ends");
                }
            }
        }
    }

    /// One reply for each command.
    fn answers(nodes: &mut Nodes, asked: &Address, commands: &CommandBuffer) -> Vec<Vec<u8>> {
        let (mut rest, mut is_asking, mut answers) = (commands.bytes(), false, Vec::new());
        let mut parser = ReplyParser::default();
        while !rest.is_empty() {
            let length = parser.advance(rest).unwrap().unwrap();
            let command = parser.reply(&rest[..length]);
            let words: Vec<&[u8]> = command.elements().filter_map(|word| word.text()).collect();
            answers.push(match words[..] {
                [b"ASKING"] => b"+OK\r\n".to_vec(),
                [b"HMGET", key, b"_ts:v", b"fiel"] => nodes.answer(asked, key, is_asking),
                _ => panic!("{command}"),
            });
            is_asking = words[..] == [b"ASKING"];
            rest = &rest[length..];
        }
        answers
    }

    proptest! {
        #[test]
        fn whatever_becomes_of_slots_and_connections_rows_come_right_and_in_order(
            fates in prop::collection::vec(
                prop::sample::select(vec![Fate::Stays, Fate::Moved, Fate::Moving, Fate::Unsure]),
                1..9,
            ),
            lost in prop::collection::vec(prop::bool::weighted(0.05), 0..400),
            count in 0..1500_usize,
        ) {
            let (layouts, mut keys) = ([layout()], PackedBytes::default());
            (0..count).for_each(|index| keys.push(format!("k{index}").as_bytes()));
            let keys = [keys];
            let job = ReadJob::new(&layouts, &keys, PROJECT, true);
            let mut nodes = Nodes { fates, told: HashSet::new() };

            let values = drive(&mut Plan::new(job, false, 0), &mut nodes, lost.into());

            let expected = (0..count).map(|index| format!("k{index}proj").into_bytes());
            prop_assert!(values.0.into_iter().eq(expected));
        }
    }

    #[test]
    fn a_replica_that_is_suspect_is_not_asked_again() {
        let text = b"*1\r\n*4\r\n:0\r\n:16383\r\n*3\r\n$1\r\nh\r\n:1\r\n$2\r\nid\r\n\
                     *3\r\n$1\r\nh\r\n:2\r\n$2\r\nid\r\n";
        let mut parser = ReplyParser::default();
        assert_eq!(parser.advance(text), Ok(Some(text.len())));
        let map = SlotMap::parse(parser.reply(text), &node(1)).unwrap();
        let (layouts, mut keys) = ([layout()], PackedBytes::default());
        keys.push(b"k");
        let keys = [keys];
        let asked = |plan: &Plan<'_>| {
            let lane = plan.lanes().iter().find(|lane| lane.unsent() > 0);
            lane.map(|lane| lane.address().clone())
        };
        for (reads_replicas, turn, first) in [(true, 1, 2), (true, 2, 1), (false, 1, 1)] {
            let job = ReadJob::new(&layouts, &keys, PROJECT, true);
            let mut plan = Plan::new(job, reads_replicas, turn);
            assert!(plan.assign(&map).is_ok());
            assert_eq!(asked(&plan), Some(node(first)));

            plan.lose(0, true);
            assert!(plan.assign(&map).is_ok());

            let next = if reads_replicas { 3 - first } else { first };
            assert_eq!(asked(&plan), Some(node(next)));
        }
    }
}
