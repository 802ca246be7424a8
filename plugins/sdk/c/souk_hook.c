#include "souk_hook.h"

#include <stdlib.h>
#include <string.h>

void *souk_allocate(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) __builtin_trap();
  return memory;
}

souk_text souk_copy(souk_text text) {
  souk_text copy = {souk_allocate(text.len), text.len};
  if (text.len) memcpy(copy.ptr, text.ptr, text.len);
  return copy;
}

bool souk_equal(souk_text one, souk_text other) {
  return one.len == other.len && (one.len == 0 || memcmp(one.ptr, other.ptr, one.len) == 0);
}

void souk_append(souk_buffer *buffer, souk_text text) {
  if (buffer->text.len + text.len > buffer->room) {
    buffer->room = 2 * (buffer->text.len + text.len);
    buffer->text.ptr = realloc(buffer->text.ptr, buffer->room);
    if (!buffer->text.ptr) __builtin_trap();
  }
  if (text.len) memcpy(buffer->text.ptr + buffer->text.len, text.ptr, text.len);
  buffer->text.len += text.len;
}

static souk_text after(souk_text text, size_t bytes) { return (souk_text){text.ptr + bytes, text.len - bytes}; }

static souk_text skip_space(souk_text text) {
  while (text.len && strchr(" \t\r\n", text.ptr[0])) text = after(text, 1);
  return text;
}

// How long the string is that begins here, with its quotes.
static size_t string_length(souk_text text) {
  for (size_t at = 1; at < text.len; at++) {
    if (text.ptr[at] == '\\') at++;
    else if (text.ptr[at] == '"') return at + 1;
  }
  return text.len;
}

// How long the value is that begins here. The host has checked that it is JSON.
static size_t value_length(souk_text text) {
  size_t depth = 0;
  for (size_t at = 0; at < text.len; at++) {
    uint8_t byte = text.ptr[at];
    if (byte == '"') {
      at += string_length(after(text, at)) - 1;
    } else if (byte == '{' || byte == '[') {
      depth++;
    } else if (depth == 0 && strchr(",]} \t\r\n", byte)) {
      return at;
    } else if (byte == '}' || byte == ']') {
      depth--;
    } else {
      continue;
    }
    if (depth == 0) return at + 1;
  }
  return text.len;
}

// Takes a value, and the comma or the closing bracket after it.
static souk_text take_value(souk_text *rest) {
  souk_text value = {rest->ptr, value_length(*rest)};
  *rest = skip_space(after(*rest, value.len));
  if (rest->len) *rest = skip_space(after(*rest, 1));
  return value;
}

souk_text souk_json_member(souk_text object, const char *name) {
  souk_text rest = skip_space(object);
  souk_text found = {0};
  if (!rest.len || rest.ptr[0] != '{') return found;
  rest = skip_space(after(rest, 1));
  while (rest.len && rest.ptr[0] == '"') {
    souk_text key = souk_json_string((souk_text){rest.ptr, string_length(rest)});
    rest = skip_space(after(rest, string_length(rest)));
    if (rest.len) rest = skip_space(after(rest, 1));
    souk_text value = take_value(&rest);
    if (souk_equal(key, (souk_text){(uint8_t *)name, strlen(name)})) found = value;
    free(key.ptr);
  }
  return found;
}

souk_text souk_json_next(souk_text *rest) {
  if (rest->len && rest->ptr[0] == '[') *rest = skip_space(after(*rest, 1));
  if (!rest->len || rest->ptr[0] == ']') return (souk_text){0};
  return take_value(rest);
}

static uint32_t hex(const uint8_t *digits) {
  uint32_t code = 0;
  for (int i = 0; i < 4; i++) {
    uint8_t digit = digits[i];
    code = code * 16 + (digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
  }
  return code;
}

static size_t put_character(uint8_t *out, uint32_t code) {
  if (code < 0x80) {
    out[0] = code;
    return 1;
  }
  if (code < 0x800) {
    out[0] = 0xC0 | code >> 6;
    out[1] = 0x80 | (code & 0x3F);
    return 2;
  }
  if (code < 0x10000) {
    out[0] = 0xE0 | code >> 12;
    out[1] = 0x80 | (code >> 6 & 0x3F);
    out[2] = 0x80 | (code & 0x3F);
    return 3;
  }
  out[0] = 0xF0 | code >> 18;
  out[1] = 0x80 | (code >> 12 & 0x3F);
  out[2] = 0x80 | (code >> 6 & 0x3F);
  out[3] = 0x80 | (code & 0x3F);
  return 4;
}

// Reads the \u at `at`, with the second half of a pair if there is one; half a pair is no character and becomes what stands for one.
static uint32_t unicode(souk_text value, size_t *at) {
  if (*at + 6 > value.len) return 0xFFFD;
  uint32_t code = hex(value.ptr + *at + 2);
  *at += 6;
  if (code >= 0xD800 && code < 0xDC00 && *at + 6 <= value.len && value.ptr[*at] == '\\' && value.ptr[*at + 1] == 'u') {
    uint32_t low = hex(value.ptr + *at + 2);
    if (low >= 0xDC00 && low < 0xE000) {
      *at += 6;
      return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
  }
  return code >= 0xD800 && code < 0xE000 ? 0xFFFD : code;
}

souk_text souk_json_string(souk_text value) {
  if (value.len < 2 || value.ptr[0] != '"') return (souk_text){0};
  static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
  souk_text text = {souk_allocate(value.len), 0};
  for (size_t at = 1; at < value.len - 1;) {
    if (value.ptr[at] != '\\') {
      text.ptr[text.len++] = value.ptr[at++];
    } else if (value.ptr[at + 1] == 'u') {
      text.len += put_character(text.ptr + text.len, unicode(value, &at));
    } else {
      for (size_t i = 0; i + 1 < sizeof escapes; i += 2)
        if (escapes[i] == value.ptr[at + 1]) text.ptr[text.len++] = escapes[i + 1];
      at += 2;
    }
  }
  return text;
}

// Whether `text` begins with `prefix`.
static bool begins(souk_text text, souk_text prefix) {
  return prefix.len <= text.len && memcmp(text.ptr, prefix.ptr, prefix.len) == 0;
}

size_t souk_replace(const souk_pair *pairs, size_t count, souk_text text, bool is_last, souk_buffer *sent) {
  size_t at = 0;
  while (at < text.len) {
    souk_text rest = after(text, at);
    size_t taken = 0;
    for (size_t i = 0; i < count && !taken; i++) {
      if (!pairs[i].from.len) continue;
      if (begins(rest, pairs[i].from)) {
        souk_append(sent, pairs[i].to);
        taken = pairs[i].from.len;
      } else if (!is_last && begins(pairs[i].from, rest)) {
        return at;
      }
    }
    if (!taken) {
      souk_append(sent, (souk_text){rest.ptr, 1});
      taken = 1;
    }
    at += taken;
  }
  return at;
}
