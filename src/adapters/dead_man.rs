//! The dead man's ping: somebody else is told that we live, and raises the alarm when we fall silent.
//!
//! What it proves is for its caller to decide: the ping is sent only while the decision loop is on time.

use std::fmt;
use std::time::Duration;

use url::Url;

use super::web::{self, Web};

/// Whom to tell, and how often.
pub struct DeadMan {
    web: Web,
    url: Url,
    every: Duration,
}

impl DeadMan {
    /// `url` is a secret: whoever knows it can keep the alarm silent.
    ///
    /// # Errors
    /// What is wrong with the URL, in words that do not quote it.
    pub fn new(web: Web, url: &str, every: Duration) -> Result<DeadMan, String> {
        let url = web::address(url).map_err(|wrong| format!("daemon.dead_man.url {wrong}"))?;
        Ok(DeadMan { web, url, every })
    }

    /// The time between two pings.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Tells it once, within the time to the next ping and [`web::PATIENCE`].
    ///
    /// # Errors
    /// Words for the log, naming the place and never the address. The next ping is the retry.
    pub async fn ping(&self) -> Result<(), String> {
        let place = web::place(&self.url);
        let client = self.web.client(&self.url).map_err(|error| format!("dead man at {place}: {error}"))?;
        let sent = client.get(self.url.clone()).timeout(self.every.min(web::PATIENCE)).send().await;
        match sent {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                Err(format!("dead man at {place}: it answered {}; check daemon.dead_man.url, else it raises the alarm", answer.status()))
            }
            Err(error) => {
                let web::Unanswered { code, words } = web::unanswered(error);
                Err(format!("dead man at {place}: no answer ({code}): {words}; if that lasts, it raises the alarm"))
            }
        }
    }
}

impl fmt::Debug for DeadMan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadMan").field("at", &web::place(&self.url)).field("every", &self.every).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::web::fake;

    fn dead_man(url: &Url, every: Duration) -> DeadMan {
        DeadMan::new(fake::web(), url.join("/ping/hush").unwrap().as_str(), every).unwrap()
    }

    #[tokio::test]
    async fn a_ping_is_one_get_of_the_address() {
        let (url, told) = fake::receiver(&[&fake::status("200 OK")]);
        let dead_man = dead_man(&url, Duration::from_secs(60));
        dead_man.ping().await.unwrap();
        assert!(told.recv().unwrap().starts_with("GET /ping/hush HTTP/1.1\r\n"));
        assert_eq!(dead_man.every(), Duration::from_secs(60));
    }

    #[tokio::test]
    async fn a_bad_answer_names_the_place_and_not_the_address() {
        let redirect = "HTTP/1.1 301 Moved\r\nLocation: /hush\r\nContent-Length: 0\r\n\r\n";
        let (url, _told) = fake::receiver(&[&fake::status("404 Not Found"), redirect]);
        let dead_man = dead_man(&url, Duration::from_secs(60));
        for word in ["404", "301"] {
            let said = dead_man.ping().await.unwrap_err();
            assert!(said.contains(word) && said.contains("127.0.0.1") && !said.contains("hush"), "{said}");
        }
        let said = dead_man.ping().await.unwrap_err();
        // Whether the receiver that has ended still resets or already refuses is not ours to say.
        assert!(said.contains("no answer") && !said.contains("hush"), "{said}");
    }

    #[tokio::test]
    async fn silence_is_given_up_before_the_next_ping() {
        let (url, _told) = fake::receiver(&[""]);
        let said = dead_man(&url, Duration::from_millis(200)).ping().await.unwrap_err();
        assert!(said.contains("timed-out") && !said.contains("hush"), "{said}");
    }

    #[tokio::test]
    async fn the_address_does_not_show() {
        let way = fake::web();
        let dead_man = DeadMan::new(way.clone(), "https://hc.example.net/ping/hush", Duration::from_secs(1)).unwrap();
        assert!(!format!("{dead_man:?}").contains("hush"), "{dead_man:?}");
        let said = DeadMan::new(way, "hush", Duration::from_secs(1)).unwrap_err();
        assert!(said.starts_with("daemon.dead_man.url is not a URL") && !said.contains("hush"), "{said}");
    }
}
