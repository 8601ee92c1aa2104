//! What is wrong with a config: the list that every part of the judge writes to.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// One thing that is wrong with a config.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// `app.shop.primary.signal.alb.fall`: names instead of indices where there are names.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// The list that all tables of one config write to.
#[derive(Debug, Clone, Default)]
pub struct Problems(Rc<RefCell<Vec<Problem>>>);

impl Problems {
    /// Notes one.
    pub fn add(&self, path: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem { path: path.into(), message: message.into() });
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// True if something is wrong with that very key.
    pub fn has_at(&self, path: &str) -> bool {
        self.0.borrow().iter().any(|problem| problem.path == path)
    }

    /// True if nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// All of them, in the order found.
    pub fn take(&self) -> Vec<Problem> {
        self.0.borrow_mut().drain(..).collect()
    }
}
