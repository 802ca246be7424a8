// Replaces words in requests and in answers; across the pieces of a stream as well.
#include "full_hook.h"
#include "souk_hook.h"

#include <stdlib.h>
#include <string.h>

static const char schema[] =
    "{\"type\":\"object\",\"properties\":{"
    "\"words\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":1},\"description\":\"What is replaced, exactly as it is "
    "written. Where several begin at a place, the one that is listed first.\"},"
    "\"mark\":{\"type\":\"string\",\"description\":\"What stands in their place; [redacted] if nothing is said.\"}},"
    "\"required\":[\"words\"],\"additionalProperties\":false}";

// The words, each with what stands in its place.
typedef struct words {
  souk_pair *pairs;
  size_t count;
} words;

static words configured(void) {
  full_hook_string_t config;
  souk_hooks_config_get(&config);
  souk_text mark = souk_json_string(souk_json_member(SOUK_TEXT(config), "mark"));
  if (!mark.ptr) mark = SOUK_LITERAL("[redacted]");
  souk_text list = souk_json_member(SOUK_TEXT(config), "words");
  words all = {souk_allocate(list.len * sizeof(souk_pair)), 0};
  for (souk_text item; (item = souk_json_next(&list)).ptr;) {
    souk_text word = souk_json_string(item);
    if (word.ptr) all.pairs[all.count++] = (souk_pair){word, mark};
  }
  return all;
}

void exports_souk_hooks_describe_get(exports_souk_hooks_describe_description_t *description) {
  full_hook_string_dup(&description->name, "redact-c");
  full_hook_string_dup(&description->version, "0.1.0");
  full_hook_string_dup(&description->summary, "Replaces words before the model and after it.");
  description->config_schema.is_some = true;
  full_hook_string_dup(&description->config_schema.val, schema);
}

// Puts what the text becomes in its place and says whether it is different now.
static bool redact(words all, full_hook_string_t *text) {
  souk_buffer sent = {0};
  souk_replace(all.pairs, all.count, SOUK_TEXT(*text), true, &sent);
  bool is_changed = !souk_equal(sent.text, SOUK_TEXT(*text));
  if (is_changed) SOUK_PUT(*text, sent.text);
  return is_changed;
}

void exports_souk_hooks_prompt_on_prompt(exports_souk_hooks_prompt_request_t *request, exports_souk_hooks_prompt_outcome_t *outcome) {
  words all = configured();
  bool is_changed = false;
  if (request->input.tag == SOUK_HOOKS_TYPES_INPUT_TEXT) {
    is_changed = redact(all, &request->input.val.text);
  } else {
    souk_hooks_types_list_message_t messages = request->input.val.messages;
    for (size_t i = 0; i < messages.len; i++)
      if (messages.ptr[i].content.is_some) is_changed |= redact(all, &messages.ptr[i].content.val);
  }
  outcome->tag = is_changed ? EXPORTS_SOUK_HOOKS_PROMPT_OUTCOME_REWRITTEN : EXPORTS_SOUK_HOOKS_PROMPT_OUTCOME_UNCHANGED;
  if (is_changed) {
    outcome->val.rewritten.request = *request;
    memset(&outcome->val.rewritten.carry, 0, sizeof outcome->val.rewritten.carry);
  }
}

void exports_souk_hooks_answer_on_answer(exports_souk_hooks_answer_whole_t *answer, exports_souk_hooks_answer_outcome_t *outcome) {
  bool is_changed = redact(configured(), &answer->text);
  outcome->tag = is_changed ? EXPORTS_SOUK_HOOKS_ANSWER_OUTCOME_REPLACED : EXPORTS_SOUK_HOOKS_ANSWER_OUTCOME_UNCHANGED;
  if (is_changed) outcome->val.replaced = answer->text;
}

// Sends what cannot be the beginning of a word.
struct exports_souk_hooks_stream_transformer_t {
  words all;
  souk_buffer held;
};

exports_souk_hooks_stream_own_transformer_t exports_souk_hooks_stream_constructor_transformer(exports_souk_hooks_stream_opening_t *opening) {
  (void)opening;
  exports_souk_hooks_stream_transformer_t *self = souk_allocate(sizeof *self);
  *self = (exports_souk_hooks_stream_transformer_t){configured(), {0}};
  return exports_souk_hooks_stream_transformer_new(self);
}

static void go(exports_souk_hooks_stream_transformer_t *self, bool is_last, exports_souk_hooks_stream_step_t *step) {
  souk_buffer sent = {0};
  size_t decided = souk_replace(self->all.pairs, self->all.count, self->held.text, is_last, &sent);
  self->held.text.len -= decided;
  if (self->held.text.len) memmove(self->held.text.ptr, self->held.text.ptr + decided, self->held.text.len);
  step->tag = EXPORTS_SOUK_HOOKS_STREAM_STEP_SEND;
  SOUK_PUT(step->val.send, sent.text);
}

void exports_souk_hooks_stream_method_transformer_push(exports_souk_hooks_stream_borrow_transformer_t self,
                                                       exports_souk_hooks_stream_piece_t *piece,
                                                       exports_souk_hooks_stream_step_t *step) {
  souk_append(&self->held, SOUK_TEXT(piece->text));
  exports_souk_hooks_stream_piece_free(piece);
  go(self, false, step);
}

void exports_souk_hooks_stream_method_transformer_finish(exports_souk_hooks_stream_borrow_transformer_t self,
                                                         exports_souk_hooks_stream_ending_t *ending,
                                                         exports_souk_hooks_stream_step_t *step) {
  (void)ending;
  go(self, true, step);
}

void exports_souk_hooks_stream_transformer_destructor(exports_souk_hooks_stream_transformer_t *self) {
  free(self->held.text.ptr);
  free(self);
}
