//! placeholder
#[derive(Debug, Clone)]
pub struct Record;
