//! The order of a pipeline against a model of it: any hooks at any places, in shares of requests, streamed and whole.

use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use souk_protocol::hooks::{CallerHooks, HookRoute, Share, Step};

use super::house::{House, around, chat, of_adapter, step, with, with_caller};
use crate::stack::{Stack, says, tokenizer};

const CHAT: &str = "/v1/chat/completions";

/// A hook that writes one word in the place of another, where a request is in its share.
#[derive(Clone, Debug)]
struct Replacing {
    word: char,
    mark: char,
    name: &'static str,
    share: Share,
}

impl Replacing {
    fn step(&self, house: &House) -> Step {
        let config = json!({"words": [self.word.to_string()], "mark": self.mark.to_string()});
        let hook = format!("acme/{}", self.name).parse().unwrap();
        Step { hook, share: self.share, ..step(house, "redact", &config) }
    }

    fn acts_on(&self, user: &str) -> bool {
        self.share.has(&format!("acme/{}", self.name).parse().unwrap(), user)
    }

    fn replace(&self, text: &str) -> String {
        text.replace(self.word, &self.mark.to_string())
    }
}

fn replacing() -> impl Strategy<Value = Replacing> {
    let letter = || prop::sample::select(vec!['a', 'b', 'c', 'd']);
    let share = prop_oneof![
        Just(Share::ALL),
        (0_u8..100).prop_flat_map(|from| (Just(from), from + 1..=100)).prop_map(|(from, below)| Share { from, below })
    ];
    (letter(), letter(), prop::sample::select(vec!["one", "two"]), share)
        .prop_map(|(word, mark, name, share)| Replacing { word, mark, name, share })
}

/// Those of tenant, key, route and publisher.
type Pipelines = [Vec<Replacing>; 4];

fn pipelines() -> impl Strategy<Value = Pipelines> {
    let few = || prop::collection::vec(replacing(), 0..3);
    (few(), few(), few(), few()).prop_map(|(tenant, key, route, publisher)| [tenant, key, route, publisher])
}

#[test]
fn prompts_go_inwards_and_answers_outwards_through_the_hooks_whose_share_has_the_request() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (around, house) = runtime.block_on(async { around() });
    let stack = Mutex::new(runtime.block_on(Stack::within(around.clone(), says("abcd dcba"))));
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let cases = (pipelines(), "[abcd ]{1,12}", "[a-z]{1,6}", any::<bool>());
    let result = runner.run(&cases, |(hooks, prompt, user, stream)| {
        let steps = |place: usize| hooks[place].iter().map(|hook| hook.step(&house)).collect::<Vec<_>>();
        with_caller(
            &around,
            CallerHooks {
                of_tenant: steps(0),
                of_key: steps(1),
                of_routes: [(HookRoute::Chat.as_str().to_owned(), steps(2))].into(),
                ..CallerHooks::default()
            },
        );
        of_adapter(&around, steps(3));
        let acting: Vec<&Replacing> = hooks.iter().flatten().filter(|hook| hook.acts_on(&user)).collect();
        let asked = acting.iter().fold(prompt.clone(), |text, hook| hook.replace(&text));
        let answered = acting.iter().rev().fold("abcd dcba".to_owned(), |text, hook| hook.replace(&text));
        let mut stack = stack.lock().unwrap();
        let body = with(with(chat(&prompt), "user", user), "stream", stream);
        let answer = runtime.block_on(stack.post(CHAT, body));
        prop_assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
        let text = match stream {
            true => answer.streamed_text(0),
            false => answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned(),
        };
        prop_assert_eq!(text, answered);
        let job = runtime.block_on(stack.jobs.recv()).unwrap();
        let expected = format!("<|user|>{asked}<|end|><|assistant|>");
        prop_assert_eq!(tokenizer().decode(&job.prompt), expected);
        Ok(())
    });
    result.unwrap();
}
