//! The texts of a request.

use crate::types::{Input, Request};

/// Gives each text of a request to `change` and puts what it makes of it in its place. Says whether any is different now.
pub fn each(request: &mut Request, mut change: impl FnMut(&str) -> String) -> bool {
    let mut is_changed = false;
    let mut put = |text: &mut String| {
        let changed = change(text);
        is_changed |= changed != *text;
        *text = changed;
    };
    match &mut request.input {
        Input::Text(text) => put(text),
        Input::Messages(messages) => messages.iter_mut().filter_map(|message| message.content.as_mut()).for_each(put),
    }
    is_changed
}
