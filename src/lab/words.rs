//! What the hand does, in words for people.

use std::fmt;

use super::action::{Action, Says};
use super::faults::Fault;
use super::world::mode_words;

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Region { region, dark: true } => write!(f, "region {region} goes dark"),
            Action::Region { region, dark: false } => write!(f, "region {region} lights up again"),
            Action::Site { site, mode } => write!(f, "the {} site {}", site.word(), mode_words(mode)),
            Action::App { site, running: false } => write!(f, "the app stops on every machine of the {} site", site.word()),
            Action::App { site, running: true } => write!(f, "the app runs again on every machine of the {} site", site.word()),
            Action::Terminate { id: Some(id), .. } => write!(f, "machine {id} dies"),
            Action::Terminate { group: Some(group), id: None } => write!(f, "a machine of group {group} dies"),
            Action::Terminate { group: None, id: None } => write!(f, "a machine dies"),
            Action::Stop { group } => write!(f, "somebody stops a machine of group {group}"),
            Action::NoCapacity { group, on: true } => write!(f, "no new machines are to be had for group {group}"),
            Action::NoCapacity { group, on: false } => write!(f, "new machines are to be had again for group {group}"),
            Action::Isolate { on: true } => write!(f, "the bastion is cut off from everything"),
            Action::Isolate { on: false } => write!(f, "the bastion is connected again"),
            Action::Fault { service, region, operation, fault, times, for_ms } => {
                let calls = match (service.as_str(), operation.as_str()) {
                    ("*", "*") => "every AWS call".to_owned(),
                    (service, "*") => format!("every call to {service}"),
                    ("*", operation) => operation.to_owned(),
                    (service, operation) => format!("{service}:{operation}"),
                };
                write!(f, "{calls}{}", if region == "*" { String::new() } else { format!(" in {region}") })?;
                match fault {
                    Fault::Answer { status, code, .. } => write!(f, " is refused with {status} {code}"),
                    Fault::Latency { millis } => write!(f, " is answered {millis} ms late"),
                    Fault::Hang => write!(f, " is never answered"),
                    Fault::DropBefore => write!(f, " is lost before it takes effect"),
                    Fault::DropAfter => write!(f, " takes effect, and its answer is lost"),
                }?;
                match times {
                    Some(1) => write!(f, ", once"),
                    Some(times) => write!(f, ", {times} times"),
                    None => Ok(()),
                }?;
                for_ms.map_or(Ok(()), |ms| write!(f, ", for {:.1}s", ms as f64 / 1e3))
            }
            Action::ClearFaults => write!(f, "every fault rule is lifted"),
            Action::Database { id, replication, lag_ms, status } => {
                let link = replication.map(|state| format!("its link is {}", format!("{state:?}").to_lowercase()));
                let lag = lag_ms.map(|ms| format!("its link runs {:.1}s late", ms as f64 / 1e3));
                let status = status.as_ref().map(|status| format!("its status is {status}"));
                let all: Vec<String> = [link, lag, status].into_iter().flatten().collect();
                write!(f, "database {id}: {}", if all.is_empty() { "unchanged".to_owned() } else { all.join(", ") })
            }
            Action::Metric { id, says: Says::Truth } => write!(f, "the lag metric of {id} tells the truth again"),
            Action::Metric { id, says: Says::Missing } => write!(f, "the lag metric of {id} falls silent"),
            Action::Metric { id, says: Says::Value(value) } => write!(f, "the lag metric of {id} says {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{SiteMode, SiteName};

    #[test]
    fn what_is_broken_is_said_in_words() {
        let fault = |fault, times| Action::Fault {
            service: "rds".into(),
            region: "*".into(),
            operation: "PromoteReadReplica".into(),
            fault,
            times,
            for_ms: None,
        };
        let said: Vec<String> = [
            Action::Region { region: "ap-south-1".into(), dark: true },
            Action::Site { site: SiteName::Primary, mode: SiteMode::Share { fraction: 0.5 } },
            fault(Fault::DropAfter, Some(1)),
            Action::Metric { id: "shop-replica".into(), says: Says::Value(-1.0) },
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        let expected = [
            "region ap-south-1 goes dark",
            "the primary site fails 50 % of the requests",
            "rds:PromoteReadReplica takes effect, and its answer is lost, once",
            "the lag metric of shop-replica says -1",
        ];
        assert_eq!(said, expected);
    }
}
