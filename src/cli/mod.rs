//! What a person sees: commands in, words out.

pub mod page;
pub mod reference;
pub mod story;
