//! What a site's load balancer answers to a request.

use super::{Millis, SiteMode, SiteName, Target, World};

/// What is asked of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `GET /healthz`.
    Health,
    /// `POST /write`.
    Write,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteReply {
    /// An answer, perhaps late.
    Answer {
        /// HTTP status.
        status: u16,
        /// The site's region, when the app itself answers.
        marker: Option<String>,
        /// Body.
        body: String,
        /// How late, in milliseconds.
        delay: u64,
    },
    /// The app is reached; what its database says is for the real server behind it to say.
    Database {
        /// The site's region, which the app's own answer carries.
        marker: String,
        /// How late the answer comes, in milliseconds.
        delay: u64,
    },
    /// Nothing, ever.
    Hang,
    /// The connection is torn down.
    Reset,
}

/// The step of the sequence that leaves no gaps, wherever one picks every n-th of it.
const GOLDEN: f64 = 0.618_033_988_749_895;

impl World {
    /// A request to a site's front.
    pub fn site_request(&mut self, name: SiteName, ask: Ask, now: Millis) -> SiteReply {
        self.app_request(0, name, ask, now)
    }

    /// The same for one of several apps.
    pub fn app_request(&mut self, app: usize, name: SiteName, ask: Ask, now: Millis) -> SiteReply {
        self.advance(now);
        let reply = self.site_reply(app, name, ask, now);
        self.count_request(name, &reply);
        reply
    }

    fn site_reply(&mut self, app: usize, name: SiteName, ask: Ask, now: Millis) -> SiteReply {
        if self.dark.contains(&self.site(name).region) {
            return SiteReply::Hang;
        }
        let mut delay = 0;
        match self.site(name).mode {
            SiteMode::Ok => {}
            SiteMode::Refuse | SiteMode::Reset => return SiteReply::Reset,
            SiteMode::Hang => return SiteReply::Hang,
            SiteMode::Error => return plain(500, "internal error", 0),
            SiteMode::WrongBody => return plain(200, "<html>It works!</html>", 0),
            SiteMode::Slow { millis } => delay = millis,
            SiteMode::Share { fraction } => {
                // Spread evenly, so that a share of a half is no lucky streak; by the golden ratio, so that it is a half
                // for each of several callers who take turns, too.
                let site = &mut self.sites[name.index()];
                site.share = (site.share + GOLDEN).fract();
                if site.share < fraction {
                    return plain(500, "internal error", 0);
                }
            }
        }
        let pool: Vec<bool> = self.targets(name).filter(|(_, t)| *t == Target::Healthy).map(|(alive, _)| alive).collect();
        if pool.is_empty() {
            return plain(503, "503 Service Temporarily Unavailable", delay);
        }
        let turn = self.sites[name.index()].turn;
        self.sites[name.index()].turn = turn.wrapping_add(1);
        if !pool[turn % pool.len()] {
            return plain(502, "502 Bad Gateway", delay);
        }
        let marker = Some(self.site(name).region.clone());
        match ask {
            Ask::Write if self.is_real() && self.site_writable(name) => {
                SiteReply::Database { marker: self.site(name).region.clone(), delay }
            }
            Ask::Health => SiteReply::Answer { status: 200, marker, body: "ok\n".to_owned(), delay },
            Ask::Write => match (!self.is_real()).then(|| self.write_of(app, name, now)).flatten() {
                Some(seq) => SiteReply::Answer { status: 200, marker, body: format!("{seq}\n"), delay },
                None => SiteReply::Answer { status: 503, marker, body: "read-only\n".to_owned(), delay },
            },
        }
    }
}

fn plain(status: u16, body: &str, delay: u64) -> SiteReply {
    SiteReply::Answer { status, marker: None, body: body.to_owned(), delay }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::WorldSpec;

    fn status(world: &mut World, site: SiteName, ask: Ask, now: Millis) -> u16 {
        match world.site_request(site, ask, now) {
            SiteReply::Answer { status, .. } => status,
            SiteReply::Hang | SiteReply::Reset | SiteReply::Database { .. } => 0,
        }
    }

    #[test]
    fn a_stopped_app_is_first_a_502_then_a_503() {
        let mut world = World::new(&WorldSpec::lab(1));
        assert_eq!(status(&mut world, SiteName::Primary, Ask::Write, 10), 200);
        assert_eq!(status(&mut world, SiteName::Standby, Ask::Health, 10), 200);
        assert_eq!(status(&mut world, SiteName::Standby, Ask::Write, 10), 503, "a replica is read-only");
        world.set_app(SiteName::Primary, false, 20);
        assert_eq!(status(&mut world, SiteName::Primary, Ask::Health, 30), 502);
        assert_eq!(status(&mut world, SiteName::Primary, Ask::Health, 1_100), 503);
    }

    #[test]
    fn a_share_fails_evenly() {
        let mut world = World::new(&WorldSpec::lab(1));
        world.set_site_mode(SiteName::Primary, SiteMode::Share { fraction: 0.5 }, 1);
        let failed: Vec<bool> = (0..200).map(|i| status(&mut world, SiteName::Primary, Ask::Health, 10 + i) == 500).collect();
        for turns in 1..5 {
            let mine: Vec<bool> = failed.iter().copied().step_by(turns).collect();
            let share = mine.iter().filter(|failed| **failed).count() as f64 / mine.len() as f64;
            assert!((share - 0.5).abs() < 0.06, "every {turns}. request: {share}");
        }
    }
}
