//! An application of Eureka, which a server in its place plays as it was recorded.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_tests::scene::PORT;
use mesh_tests::wait::eventually;

use super::fake::{Fake, Said};
use super::stage::{SOON, Stage, finish};

/// What the server has, and what it tells.
#[derive(Clone, Default)]
struct Play {
    /// All applications.
    whole: String,
    /// What has changed of late; empty: it tells of no changes.
    delta: String,
    /// What it answers instead.
    instead: Option<Said>,
}

/// A server of Eureka whose play changes.
struct Eureka {
    fake: Fake,
    play: Arc<Mutex<Play>>,
}

impl Eureka {
    fn start(stage: &Stage, play: Play) -> Self {
        let play = Arc::new(Mutex::new(play));
        let played = Arc::clone(&play);
        let fake = Fake::start(stage.scene.topology.balancer(), 8761, move |request| {
            let play = played.lock().unwrap().clone();
            let ok = |body: &str| Said::new("200 OK", &[("content-type", "application/json")], body);
            match (request.split(' ').nth(1).unwrap(), play.instead) {
                (_, Some(said)) => said,
                ("/eureka/apps", None) => ok(&play.whole),
                ("/eureka/apps/delta", None) if play.delta.is_empty() => Said::new("403 Forbidden", &[], ""),
                ("/eureka/apps/delta", None) => ok(&play.delta),
                (path, None) => Said::new("404 Not Found", &[], path),
            }
        });
        Self { fake, play }
    }

    fn plays(&self, change: impl FnOnce(&mut Play)) {
        change(&mut self.play.lock().unwrap());
    }

    /// How often something was asked for.
    fn count(&self, path: &str) -> usize {
        let is_meant = |request: &&String| request.split(' ').nth(1) == Some(path);
        self.fake.requests().iter().filter(is_meant).count()
    }
}

/// An instance as Eureka has it.
fn instance(stage: &Stage, number: usize, status: &str, action: &str) -> String {
    let address = stage.address(number);
    format!(
        "{{\"instanceId\":\"web-{number}:web:{PORT}\",\"hostName\":\"web-{number}\",\"app\":\"WEB\",\
         \"ipAddr\":\"{address}\",\"status\":\"{status}\",\"overriddenStatus\":\"UNKNOWN\",\
         \"port\":{{\"$\":{PORT},\"@enabled\":\"true\"}},\"securePort\":{{\"$\":443,\"@enabled\":\"false\"}},\
         \"countryId\":1,\"metadata\":{{\"weight\":\"{}\"}},\"vipAddress\":\"web\",\"actionType\":\"{action}\"}}",
        100 * (number + 1)
    )
}

/// Applications: that of the test, and one that is none of its matter.
fn applications(web: &[String], counts: &str) -> String {
    let other = "{\"instanceId\":\"db-0\",\"ipAddr\":\"db.example\",\"status\":\"UP\",\"port\":\"none\"}";
    format!(
        "{{\"applications\":{{\"versions__delta\":\"1\",\"apps__hashcode\":\"{counts}\",\"application\":[\
         {{\"name\":\"DB\",\"instance\":{other}}},{{\"name\":\"WEB\",\"instance\":[{}]}}]}}}}",
        web.join(",")
    )
}

fn table(keys: &str) -> String {
    format!(
        "[[service.discovery]]\nkind = \"eureka\"\nendpoints = [\"http://127.0.0.1:8761/eureka\"]\n\
         application = \"web\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n{keys}"
    )
}

#[test]
fn eureka_says_who_is_there_while_connections_live() {
    let stage = Stage::set(4);
    let up = |number| instance(&stage, number, "UP", "ADDED");
    let both = applications(&[up(0), up(1)], "UP_3_");
    let eureka = Eureka::start(&stage, Play { whole: both.clone(), delta: both, instead: None });
    stage.discover(&table(""));
    stage.says(&[(0, "up", 100), (1, "up", 200)]);
    stage.serves(&[0, 1]);
    let (traffic, downloads) = (stage.traffic(), stage.downloads(20));

    // Changes: one comes, one is taken out of service, one starts, one leaves.
    let changes = [
        instance(&stage, 0, "OUT_OF_SERVICE", "MODIFIED"),
        instance(&stage, 2, "UP", "ADDED"),
        instance(&stage, 3, "STARTING", "ADDED"),
    ];
    eureka.plays(|play| play.delta = applications(&changes, "OUT_OF_SERVICE_1_STARTING_1_UP_3_"));
    stage.says(&[(0, "draining", 100), (1, "up", 200), (2, "up", 300), (3, "draining", 400)]);
    stage.serves(&[1, 2]);
    let changes = [
        instance(&stage, 0, "UP", "MODIFIED"),
        instance(&stage, 2, "DOWN", "MODIFIED"),
        instance(&stage, 3, "UP", "DELETED"),
    ];
    eureka.plays(|play| play.delta = applications(&changes, "DOWN_1_UP_3_"));
    stage.says(&[(0, "up", 100), (1, "up", 200), (2, "down", 300)]);
    stage.serves(&[0, 1]);
    assert_eq!(eureka.count("/eureka/apps"), 1, "changes were enough");

    // A change was missed: the counts tell, and all is read again. So it is where no changes are told.
    eureka.plays(|play| {
        play.whole = applications(&[up(0), up(2)], "UP_3_");
        play.delta = applications(&[], "UP_3_");
    });
    stage.says(&[(0, "up", 100), (2, "up", 300)]);
    eureka.plays(|play| {
        play.whole = applications(&[up(0), up(2), up(3)], "UP_4_");
        play.delta = String::new();
    });
    stage.says(&[(0, "up", 100), (2, "up", 300), (3, "up", 400)]);
    let unreachable =
        up(1).replace(&format!("\"$\":{PORT},\"@enabled\":\"true\""), "\"$\":0,\"@enabled\":true");
    eureka.plays(|play| play.whole = applications(&[up(0), unreachable, up(2), up(3)], ""));
    let problem = "entries that are left out: 1, such as \"web-1:web:8080\": none of its ports is enabled";
    let is_said = || stage.status().problems.iter().any(|it| it.contains(problem));
    eventually("the instance is said to be none", SOON, is_said).unwrap();

    // What is no answer changes nothing.
    let slow = Said::new("200 OK", &[], &applications(&[], "UP_1_")).after(Duration::from_secs(3));
    let wrong = [
        (Said::new("404 Not Found", &[], ""), "/eureka/apps returned status 404 Not Found"),
        (Said::new("403 Forbidden", &[], ""), "/eureka/apps returned status 403 Forbidden"),
        (
            Said::new("500 Internal Server Error", &[], "boom"),
            "returned status 500 Internal Server Error: boom",
        ),
        (Said::new("200 OK", &[], "<applications/>"), "was answered with something else: expected value"),
        (Said::new("200 OK", &[], "{\"applications\":{\"application\":7}}"), "something else: invalid type"),
        (Said::new("200 OK", &[], "{}"), "missing field `applications`"),
        (slow, "was not answered within 500ms"),
    ];
    for (said, expected) in wrong {
        eureka.plays(|play| play.instead = Some(said));
        let is_said = || stage.source().last_error.is_some_and(|error| error.contains(expected));
        eventually(expected, SOON, is_said).unwrap_or_else(|error| panic!("{error:#}: {:?}", stage.source()));
        assert_eq!(stage.source().instances, 3);
        stage.serves(&[0, 2, 3]);
        eureka.plays(|play| play.instead = None);
        stage.source_becomes("live");
    }

    // A name and a password, which are sent and not shown; a registry without the application says that nobody is there.
    let password = stage.scene.topology.directory().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    finish(downloads);
    traffic.finish();
    eureka.plays(|play| play.whole = applications(&[up(0)], "UP_2_"));
    stage.discover(&table(&format!("user = \"balancer\"\npassword_file = {password:?}\n")));
    stage.says(&[(0, "up", 100)]);
    // balancer:s3cret
    let is_asked = || {
        let request = eureka.fake.requests().pop().unwrap();
        request.to_lowercase().contains("authorization: basic ymfsyw5jzxi6cznjcmv0")
            && !request.contains("s3cret")
    };
    eventually("it is asked as a user", SOON, is_asked).unwrap();
    eureka.plays(|play| play.whole = "{\"applications\":{\"application\":[]}}".to_owned());
    stage.says(&[]);
    assert!(!stage.scene.agent.log().contains("s3cret"));
}
