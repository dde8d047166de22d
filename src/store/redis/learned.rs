//! What a store has learned from its servers' replies about the ways in which rows may be
//! written. Must not know commands' arguments.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use super::replace::LearnedReplace;
use super::script::LearnedScript;

/// After a batch of which most entities were there, so many batches go without a trial.
const BATCHES_WITHOUT_TRIAL: u32 = 15;
/// The same for chunks of which one looked whether any entity was there.
const CHUNKS_WITHOUT_TRIAL: u32 = 15;

const LISTPACKS_REFUSED: u8 = 1;
const RESTORE_REFUSED: u8 = 2;

/// How entities are written that are expected to be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// RESTORE of a hash that was serialized here.
    Restore,
    /// COPY of a hash that is made under another key.
    Copy,
}

/// What all batches of a store share.
#[derive(Default)]
pub(super) struct Learned {
    // What RESTORE was refused: nothing, listpacks, or everything.
    refused: AtomicU8,
    is_copy_refused: AtomicBool,
    are_transactions_known: AtomicBool,
    batches_without_trial: AtomicU32,
    /// Where there is no RESTORE.
    pub(super) absence: Absence,
    /// About existing entities.
    pub(super) replace: LearnedReplace,
    /// About small batches.
    pub(super) script: LearnedScript,
}

impl Learned {
    /// The best way to write new entities, if the server has one.
    pub(super) fn manner(&self) -> Option<Manner> {
        match self.is_copy_refused.load(Ordering::Relaxed) {
            _ if !self.is_restore_refused() => Some(Manner::Restore),
            false => Some(Manner::Copy),
            true => None,
        }
    }

    /// Whether the entities of the next batch may all be new.
    pub(super) fn is_worth_a_trial(&self) -> bool {
        let left = self.batches_without_trial.load(Ordering::Relaxed);
        if left > 0 {
            self.batches_without_trial.store(left - 1, Ordering::Relaxed);
        }
        left == 0
    }

    /// Most entities of a batch were there.
    pub(super) fn was_in_vain(&self) {
        self.batches_without_trial.store(BATCHES_WITHOUT_TRIAL, Ordering::Relaxed);
    }

    pub(super) fn is_restore_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed) >= RESTORE_REFUSED
    }

    pub(super) fn are_listpacks_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed) >= LISTPACKS_REFUSED
    }

    /// The server at `node` takes no RESTORE, as it says in `text`.
    pub(super) fn refuse_restore(&self, node: &str, text: &[u8]) {
        self.refuse(RESTORE_REFUSED, node, text);
    }

    /// The same of listpacks.
    pub(super) fn refuse_listpacks(&self, node: &str, text: &[u8]) {
        self.refuse(LISTPACKS_REFUSED, node, text);
    }

    fn refuse(&self, what: u8, node: &str, text: &[u8]) {
        if self.refused.fetch_max(what, Ordering::Relaxed) == 0 {
            tell_refusal("RESTORE", node, text);
        }
    }

    /// The same of COPY in a transaction.
    pub(super) fn refuse_copy(&self, node: &str, text: &[u8]) {
        if !self.is_copy_refused.swap(true, Ordering::Relaxed) {
            tell_refusal("COPY", node, text);
        }
    }

    /// Whether the server is known to have transactions.
    pub(super) fn are_transactions_known(&self) -> bool {
        self.are_transactions_known.load(Ordering::Relaxed)
    }

    /// The server has transactions, or has no more.
    pub(super) fn know_transactions(&self, are_known: bool) {
        self.are_transactions_known.store(are_known, Ordering::Relaxed);
    }
}

/// Says once in the store's life that, and why, it is written to in a slower way.
fn tell_refusal(command: &str, node: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    // Some repeat the arguments, which are no text.
    let why = text.split(", with args").next().unwrap_or_default();
    log::info!("Redis at {node} refuses {command} ({why}): a slower way to write is taken");
}

/// Whether chunks are expected to have nothing but new entities.
#[derive(Default)]
pub(super) struct Absence {
    is_expected: AtomicBool,
    chunks_to_skip: AtomicU32,
}

impl Absence {
    pub(super) fn is_likely(&self) -> bool {
        self.is_expected.load(Ordering::Relaxed)
    }

    /// A chunk had none but new ones.
    pub(super) fn expect(&self) {
        let left = self.chunks_to_skip.load(Ordering::Relaxed);
        match left.checked_sub(1) {
            None => self.is_expected.store(true, Ordering::Relaxed),
            Some(left) => self.chunks_to_skip.store(left, Ordering::Relaxed),
        }
    }

    /// A chunk was looked at in vain: not again for a while.
    pub(super) fn was_wrong(&self) {
        self.is_expected.store(false, Ordering::Relaxed);
        self.chunks_to_skip.store(CHUNKS_WITHOUT_TRIAL, Ordering::Relaxed);
    }
}
