//! What views that are under way at once tell, each from its own thread, to the one that called.

use std::sync::mpsc::Sender;

use super::request::ViewReport;
use crate::error::Result;

/// Something about one view, which is known by its index.
pub(super) struct News {
    pub view: usize,
    pub what: What,
}

pub(super) enum What {
    /// It begins; its source has so many rows.
    Started(u64),
    /// Nothing was written for a moment; so many rows of its source are searched.
    Waiting(u64),
    /// So many more rows of its source are done.
    Advanced(u64),
    /// It is over.
    Ended(Result<ViewReport>),
}

/// Tells news of one view.
pub(super) struct Teller<'a> {
    view: usize,
    news: &'a Sender<News>,
}

impl<'a> Teller<'a> {
    pub fn new(view: usize, news: &'a Sender<News>) -> Self {
        Teller { view, news }
    }

    pub fn started(&self, total_rows: u64) {
        self.tell(What::Started(total_rows));
    }

    pub fn waiting(&self, searched: u64) {
        self.tell(What::Waiting(searched));
    }

    pub fn advanced(&self, rows: u64) {
        self.tell(What::Advanced(rows));
    }

    pub fn ended(&self, done: Result<ViewReport>) {
        self.tell(What::Ended(done));
    }

    fn tell(&self, what: What) {
        // The caller listens until all views have ended.
        let _ = self.news.send(News { view: self.view, what });
    }
}
