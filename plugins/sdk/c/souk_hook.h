// Hooks of Souk in C: texts, the configuration's JSON, and texts that are replaced across the pieces of a stream.
//
// What each interface means is said in hooks.wit; bindings/WORLD has its functions and types. Whoever runs out of memory here traps.
#ifndef SOUK_HOOK_H
#define SOUK_HOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A text: bytes of UTF-8, without a zero at the end. Strings of the bindings are of the same form.
typedef struct souk_text {
  uint8_t *ptr;
  size_t len;
} souk_text;

// A string of the bindings, or a field of one, as a text.
#define SOUK_TEXT(string) ((souk_text){(string).ptr, (string).len})
// A literal as a text. It is not to be changed, nor to be freed.
#define SOUK_LITERAL(literal) ((souk_text){(uint8_t *)(literal), sizeof(literal) - 1})
// Puts a text into a string of the bindings.
#define SOUK_PUT(string, text) ((string).ptr = (text).ptr, (string).len = (text).len)

// Memory that is there; a hook without memory ends here.
void *souk_allocate(size_t bytes);

// A copy of a text.
souk_text souk_copy(souk_text text);

// Whether two texts are the same.
bool souk_equal(souk_text one, souk_text other);

// A text that grows. Begin with {0}.
typedef struct souk_buffer {
  souk_text text;
  size_t room;
} souk_buffer;

// Adds a text to its end.
void souk_append(souk_buffer *buffer, souk_text text);

// The member of an object of JSON, as it is written there; empty (its ptr is NULL) if there is none.
souk_text souk_json_member(souk_text object, const char *name);

// The next item of an array of JSON, as it is written there; `rest` is the array at first. Empty (its ptr is NULL) after the last.
souk_text souk_json_next(souk_text *rest);

// A string of JSON without its quotes and escapes, in memory of its own; empty (its ptr is NULL) if it is none.
souk_text souk_json_string(souk_text value);

// What is replaced, and by what.
typedef struct souk_pair {
  souk_text from;
  souk_text to;
} souk_pair;

// Replaces each `from` by its `to`, from left to right, and where several begin at a place the one that is listed first. Unless the text is
// the last, it is decided up to where something may begin that is not all there yet: returns how many bytes are, and adds what is sent.
size_t souk_replace(const souk_pair *pairs, size_t count, souk_text text, bool is_last, souk_buffer *sent);

#endif
