//! The official OpenAI client for Python against the real server.

mod stack;

use stack::Stack;

#[test]
fn the_official_client_chats_streams_scores_and_lists() {
    let stack = Stack::start();
    stack.push_examples();
    stack.python("chat.py");
}

#[test]
fn the_official_client_is_refused_in_its_own_terms() {
    let stack = Stack::start();
    stack.push_examples();
    stack.python("errors.py");
}

#[test]
fn the_official_client_gets_answers_of_a_given_form() {
    let stack = Stack::start();
    stack.push_examples();
    stack.python("constraints.py");
}

#[test]
fn a_client_that_goes_away_takes_its_request_out_of_the_batch() {
    let stack = Stack::start();
    stack.python("disconnect.py");
}
