// Puts the name that the configuration gives into prompts and below answers.
#include "full_hook.h"
#include "souk_hook.h"

#include <stdlib.h>
#include <string.h>

static const char schema[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"description\":"
                             "\"Who is meant by \\\"my name\\\"; nobody if nothing is said.\"}},\"additionalProperties\":false}";

static souk_text name(void) {
  full_hook_string_t config;
  souk_hooks_config_get(&config);
  souk_text name = souk_json_string(souk_json_member(SOUK_TEXT(config), "name"));
  return name.ptr ? name : SOUK_LITERAL("nobody");
}

void exports_souk_hooks_describe_get(exports_souk_hooks_describe_description_t *description) {
  full_hook_string_dup(&description->name, "my-hook");
  full_hook_string_dup(&description->version, "0.1.0");
  full_hook_string_dup(&description->summary, "Puts a name into prompts and below answers.");
  description->config_schema.is_some = true;
  full_hook_string_dup(&description->config_schema.val, schema);
}

// Puts the name into a text and says whether it is different now.
static bool put_name(full_hook_string_t *text) {
  souk_pair pair = {SOUK_LITERAL("my name"), name()};
  souk_buffer put = {0};
  souk_replace(&pair, 1, SOUK_TEXT(*text), true, &put);
  bool is_changed = !souk_equal(put.text, SOUK_TEXT(*text));
  if (is_changed) SOUK_PUT(*text, put.text);
  return is_changed;
}

void exports_souk_hooks_prompt_on_prompt(exports_souk_hooks_prompt_request_t *request, exports_souk_hooks_prompt_outcome_t *outcome) {
  bool is_changed = false;
  if (request->input.tag == SOUK_HOOKS_TYPES_INPUT_TEXT) {
    is_changed = put_name(&request->input.val.text);
  } else {
    souk_hooks_types_list_message_t messages = request->input.val.messages;
    for (size_t i = 0; i < messages.len; i++)
      if (messages.ptr[i].content.is_some) is_changed |= put_name(&messages.ptr[i].content.val);
  }
  outcome->tag = is_changed ? EXPORTS_SOUK_HOOKS_PROMPT_OUTCOME_REWRITTEN : EXPORTS_SOUK_HOOKS_PROMPT_OUTCOME_UNCHANGED;
  if (is_changed) {
    outcome->val.rewritten.request = *request;
    memset(&outcome->val.rewritten.carry, 0, sizeof outcome->val.rewritten.carry);
  }
}

void exports_souk_hooks_answer_on_answer(exports_souk_hooks_answer_whole_t *answer, exports_souk_hooks_answer_outcome_t *outcome) {
  souk_buffer text = {0};
  souk_append(&text, SOUK_TEXT(answer->text));
  souk_append(&text, SOUK_LITERAL("\n"));
  souk_append(&text, name());
  outcome->tag = EXPORTS_SOUK_HOOKS_ANSWER_OUTCOME_REPLACED;
  SOUK_PUT(outcome->val.replaced, text.text);
}

struct exports_souk_hooks_stream_transformer_t {
  souk_text name;
};

exports_souk_hooks_stream_own_transformer_t exports_souk_hooks_stream_constructor_transformer(exports_souk_hooks_stream_opening_t *opening) {
  (void)opening;
  exports_souk_hooks_stream_transformer_t *self = souk_allocate(sizeof *self);
  self->name = name();
  return exports_souk_hooks_stream_transformer_new(self);
}

void exports_souk_hooks_stream_method_transformer_push(exports_souk_hooks_stream_borrow_transformer_t self,
                                                       exports_souk_hooks_stream_piece_t *piece,
                                                       exports_souk_hooks_stream_step_t *step) {
  (void)self;
  step->tag = EXPORTS_SOUK_HOOKS_STREAM_STEP_SEND;
  step->val.send = piece->text;
}

void exports_souk_hooks_stream_method_transformer_finish(exports_souk_hooks_stream_borrow_transformer_t self,
                                                         exports_souk_hooks_stream_ending_t *ending,
                                                         exports_souk_hooks_stream_step_t *step) {
  (void)ending;
  souk_buffer text = {0};
  souk_append(&text, SOUK_LITERAL("\n"));
  souk_append(&text, self->name);
  step->tag = EXPORTS_SOUK_HOOKS_STREAM_STEP_SEND;
  SOUK_PUT(step->val.send, text.text);
}

void exports_souk_hooks_stream_transformer_destructor(exports_souk_hooks_stream_transformer_t *self) { free(self); }
