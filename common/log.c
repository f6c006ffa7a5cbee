#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/utf8.h"

const char *const rmk_log_level_names[] = {"debug", "info", "warn", "error", NULL};
const char *const rmk_log_format_names[] = {"logfmt", "json", "text", NULL};

enum {
    /* Room kept for what must still fit after a line was cut: an ellipsis, a quote, a brace, a
       newline. */
    TAIL_BYTES = 16,
    VALUE_BYTES_MAX = 2048,
    REPEAT_SLOTS = 64,
    STALL_WAIT_MS = 100,
};

#define REPEAT_WINDOW_US 1000000u

static struct {
    enum rmk_log_level level;
    enum rmk_log_format format;
    const char *process;
    int fd;
} settings = {.level = RMK_LOG_INFO, .format = RMK_LOG_LOGFMT, .process = NULL, .fd = -1};

/* Guarded by `lock`, like the order of lines. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct repeat {
    uint64_t hash;
    uint64_t window_begin_us;
    uint64_t count;
    uint64_t dropped;
    enum rmk_log_level level;
    char part[32];
    char message[96];
} repeats[REPEAT_SLOTS];
static unsigned repeats_with_drops;
static bool stalled; /* nobody reads our stderr at present */
static uint64_t lines_lost;

struct line {
    char text[RMK_LOG_LINE_MAX];
    size_t size;
    bool cut;
};

void rmk_log_init(enum rmk_log_level level, enum rmk_log_format format, const char *process)
{
    settings.level = level;
    settings.format = format;
    settings.process = process;
}

void rmk_log_to(int fd)
{
    settings.fd = fd;
}

bool rmk_log_enabled(enum rmk_log_level level)
{
    return level >= settings.level;
}

/* ---- one line ------------------------------------------------------------------------------ */

static bool fits(const struct line *line, size_t size)
{
    return !line->cut && line->size + size <= sizeof(line->text) - TAIL_BYTES;
}

/* All or nothing: an escape is never cut in its middle. */
static bool append(struct line *line, const char *text, size_t size)
{
    if (!fits(line, size)) {
        line->cut = true;
        return false;
    }
    memcpy(line->text + line->size, text, size);
    line->size += size;
    return true;
}

/* Closing characters go into the room that append() leaves. */
static void append_tail(struct line *line, const char *text)
{
    size_t size = strlen(text);

    rmk_assert(line->size + size <= sizeof(line->text));
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static bool append_text(struct line *line, const char *text)
{
    return append(line, text, strlen(text));
}

/* Characters that move the cursor, change colours or reorder what a terminal shows. */
static bool is_dangerous(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static void append_escaped(struct line *line, struct rmk_bytes text)
{
    while (text.size > 0 && !line->cut) {
        uint32_t c;
        size_t length;
        char escape[16];
        bool whole = rmk_utf8_next(text, &c, &length) == RMK_UTF8_VALID;
        const char *unit = escape;
        size_t unit_size;

        if (!whole) {
            unit_size = (size_t)snprintf(escape, sizeof(escape), "\\ufffd");
        } else if (c == '"' || c == '\\') {
            unit_size = (size_t)snprintf(escape, sizeof(escape), "\\%c", (char)c);
        } else if (c == '\n') {
            unit_size = (size_t)snprintf(escape, sizeof(escape), "\\n");
        } else if (is_dangerous(c)) {
            unit_size = (size_t)snprintf(escape, sizeof(escape), "\\u%04" PRIx32, c);
        } else {
            unit = (const char *)text.data;
            unit_size = length;
        }
        if (!append(line, unit, unit_size)) {
            append_tail(line, "…");
        }
        text = rmk_bytes_of(text.data + length, text.size - length);
    }
}

static void append_quoted(struct line *line, struct rmk_bytes text)
{
    if (append_text(line, "\"")) {
        append_escaped(line, text);
        append_tail(line, "\"");
    }
}

/* A bare logfmt value: what no reader could take for another field. */
static bool is_bare(struct rmk_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\') {
            return false;
        }
    }
    return text.size > 0;
}

static void append_field(struct line *line, const char *key, size_t key_size,
                         struct rmk_bytes value, bool is_number)
{
    bool json = settings.format == RMK_LOG_JSON;

    /* Key and value together or not at all; a long text value may be cut, a number may not. */
    if (!fits(line, key_size + 8 + (is_number ? value.size : 0))) {
        line->cut = true;
        return;
    }
    if (json) {
        append_text(line, line->size == 0 ? "{\"" : ",\"");
        append(line, key, key_size);
        append_text(line, "\":");
    } else {
        append_text(line, line->size == 0 ? "" : " ");
        append(line, key, key_size);
        append_text(line, "=");
    }
    if (is_number || (!json && is_bare(value) && fits(line, value.size))) {
        append(line, (const char *)value.data, value.size);
    } else {
        append_quoted(line, value);
    }
}

static void append_text_field(struct line *line, const char *key, const char *value)
{
    append_field(line, key, strlen(key), rmk_bytes_text(value), false);
}

static void append_head(struct line *line, enum rmk_log_level level, const char *part,
                        const char *message)
{
    uint64_t now_us = rmk_clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000u);
    struct tm utc;
    char date[32];
    char stamp[64];

    (void)gmtime_r(&seconds, &utc);
    (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(stamp, sizeof(stamp), "%s.%06uZ", date, (unsigned)(now_us % 1000000u));

    if (settings.format == RMK_LOG_TEXT) {
        char head[96];
        (void)snprintf(head, sizeof(head), "%s %-5s ", stamp, rmk_log_level_names[level]);
        append_text(line, head);
        append_escaped(line, rmk_bytes_text(part));
        append_text(line, ": ");
        append_escaped(line, rmk_bytes_text(message));
        return;
    }
    append_text_field(line, "time", stamp);
    append_text_field(line, "level", rmk_log_level_names[level]);
    if (settings.process != NULL) {
        append_text_field(line, "process", settings.process);
    }
    append_text_field(line, "part", part);
    append_text_field(line, "msg", message);
}

static void append_end(struct line *line)
{
    append_tail(line, settings.format == RMK_LOG_JSON ? "}\n" : "\n");
}

/* ---- fields: a printf format whose value boundaries we know -------------------------------- */

struct value {
    char text[VALUE_BYTES_MAX];
    size_t size;
};

/* One conversion: its own small format for snprintf, and which type to take from the arguments. */
struct conversion {
    char format[32];
    int precision; /* -1: none, or it is in `format` */
    char length;   /* h, l, q (long long), z, j, 0 */
    char type;
};

static const char *parse_conversion(const char *at, struct conversion *out, va_list *arguments)
{
    const char *begin = at++;
    size_t size;

    out->precision = -1;
    out->length = 0;
    at += strspn(at, "-+#0");
    at += strspn(at, "0123456789");
    if (at[0] == '.' && at[1] == '*') {
        at += 2;
        out->precision = va_arg(*arguments, int);
    } else if (at[0] == '.') {
        at++;
        at += strspn(at, "0123456789");
    }
    while (strchr("hlzj", *at) != NULL && *at != '\0') {
        out->length = out->length == 'l' && *at == 'l' ? 'q' : *at;
        at++;
    }
    out->type = *at;
    rmk_assert(out->type != '\0');
    rmk_assert(strchr("sdiuxXcfgep%", out->type) != NULL);
    at++;
    size = (size_t)(at - begin);
    rmk_assert(size < sizeof(out->format));
    memcpy(out->format, begin, size);
    out->format[size] = '\0';
    return at;
}

static int format_signed(char *text, size_t size, const struct conversion *c, va_list *arguments)
{
    switch (c->length) {
    case 'l':
        return snprintf(text, size, c->format, va_arg(*arguments, long));
    case 'q':
        return snprintf(text, size, c->format, va_arg(*arguments, long long));
    case 'z':
        return snprintf(text, size, c->format, va_arg(*arguments, ssize_t));
    case 'j':
        return snprintf(text, size, c->format, va_arg(*arguments, intmax_t));
    default:
        return snprintf(text, size, c->format, va_arg(*arguments, int));
    }
}

static int format_unsigned(char *text, size_t size, const struct conversion *c, va_list *arguments)
{
    switch (c->length) {
    case 'l':
        return snprintf(text, size, c->format, va_arg(*arguments, unsigned long));
    case 'q':
        return snprintf(text, size, c->format, va_arg(*arguments, unsigned long long));
    case 'z':
        return snprintf(text, size, c->format, va_arg(*arguments, size_t));
    case 'j':
        return snprintf(text, size, c->format, va_arg(*arguments, uintmax_t));
    default:
        return snprintf(text, size, c->format, va_arg(*arguments, unsigned));
    }
}

static int format_text(char *text, size_t size, const struct conversion *c, va_list *arguments)
{
    const char *argument = va_arg(*arguments, const char *);

    if (argument == NULL) {
        return snprintf(text, size, "(null)");
    }
    return c->precision >= 0 ? snprintf(text, size, c->format, c->precision, argument)
                             : snprintf(text, size, c->format, argument);
}

static void format_value(struct value *value, const struct conversion *c, va_list *arguments)
{
    char *text = value->text + value->size;
    size_t room = sizeof(value->text) - value->size;
    int wanted;

    switch (c->type) {
    case 's':
        wanted = format_text(text, room, c, arguments);
        break;
    case 'd':
    case 'i':
        wanted = format_signed(text, room, c, arguments);
        break;
    case 'c':
        wanted = snprintf(text, room, c->format, va_arg(*arguments, int));
        break;
    case 'f':
    case 'g':
    case 'e':
        wanted = snprintf(text, room, c->format, va_arg(*arguments, double));
        break;
    case 'p':
        wanted = snprintf(text, room, c->format, va_arg(*arguments, void *));
        break;
    case '%':
        wanted = snprintf(text, room, "%%");
        break;
    default:
        wanted = format_unsigned(text, room, c, arguments);
        break;
    }
    if (wanted > 0) {
        value->size += (size_t)wanted < room ? (size_t)wanted : room - 1;
    }
}

/* JSON has no NaN, Infinity or hexadecimal; those stay text. */
static bool is_json_number(const struct value *value)
{
    size_t sign = value->size > 0 && value->text[0] == '-';

    return value->size > sign && value->text[sign] >= '0' && value->text[sign] <= '9' &&
           (value->text[sign] != '0' || value->size == sign + 1 || value->text[sign + 1] == '.');
}

static void append_fields(struct line *line, const char *fields, va_list *arguments)
{
    const char *at = fields;

    while (*at != '\0') {
        const char *key = at;
        size_t key_size = strcspn(at, "=");
        struct value value = {.size = 0};
        unsigned conversions = 0;
        unsigned literals = 0;
        char type = 's';

        rmk_assert(at[key_size] == '=');
        at += key_size + 1;
        while (*at != '\0' && *at != ' ') {
            if (*at == '%') {
                struct conversion conversion;
                at = parse_conversion(at, &conversion, arguments);
                format_value(&value, &conversion, arguments);
                conversions++;
                type = conversion.type;
            } else {
                if (value.size + 1 < sizeof(value.text)) {
                    value.text[value.size++] = *at;
                }
                literals++;
                at++;
            }
        }
        bool is_number = conversions == 1 && literals == 0 && strchr("diufge", type) != NULL &&
                         is_json_number(&value);
        append_field(line, key, key_size, rmk_bytes_of(value.text, value.size), is_number);
        at += strspn(at, " ");
    }
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Never blocks for long: a pipe that nobody empties must not stop a server. Poll says "writable"
 * for a pipe when PIPE_BUF bytes fit, and a line is no longer than that. */
static bool write_line(const struct line *line)
{
    int fd = settings.fd >= 0 ? settings.fd : STDERR_FILENO;
    struct pollfd target = {.fd = fd, .events = POLLOUT};
    int ready = poll(&target, 1, stalled ? 0 : STALL_WAIT_MS);
    ssize_t written = -1;

    if (ready == 1) {
        do {
            written = write(fd, line->text, line->size);
        } while (written < 0 && errno == EINTR);
    }
    stalled = ready == 0;
    return written == (ssize_t)line->size;
}

static void write_or_count(const struct line *line)
{
    if (!write_line(line)) {
        lines_lost++;
        return;
    }
    if (lines_lost > 0) {
        struct line note = {.size = 0};
        char count[24];
        (void)snprintf(count, sizeof(count), "%" PRIu64, lines_lost);
        append_head(&note, RMK_LOG_WARN, "log", "lines lost, nobody read them in time");
        append_field(&note, "lost", 4, rmk_bytes_text(count), true);
        append_end(&note);
        if (write_line(&note)) {
            lines_lost = 0;
        }
    }
}

static uint64_t hash_of(const char *part, const char *message)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (const char *text = part; text != NULL; text = text == part ? message : NULL) {
        for (const char *at = text; *at != '\0'; at++) {
            hash = (hash ^ (uint8_t)*at) * 0x100000001b3u;
        }
        hash = (hash ^ 0xff) * 0x100000001b3u;
    }
    return hash;
}

static void report_drops(struct repeat *repeat)
{
    struct line note = {.size = 0};
    char count[24];

    (void)snprintf(count, sizeof(count), "%" PRIu64, repeat->dropped);
    append_head(&note, repeat->level, repeat->part, "repeated lines dropped");
    append_text_field(&note, "repeated", repeat->message);
    append_field(&note, "dropped", 7, rmk_bytes_text(count), true);
    append_end(&note);
    write_or_count(&note);
    repeat->dropped = 0;
    repeats_with_drops--;
}

static void report_finished_windows(uint64_t now_us)
{
    for (unsigned i = 0; i < REPEAT_SLOTS && repeats_with_drops > 0; i++) {
        if (repeats[i].dropped > 0 && now_us - repeats[i].window_begin_us >= REPEAT_WINDOW_US) {
            report_drops(&repeats[i]);
        }
    }
}

static bool may_pass(enum rmk_log_level level, const char *part, const char *message)
{
    uint64_t now_us = rmk_clock_us();
    uint64_t hash = hash_of(part, message);
    struct repeat *repeat = &repeats[hash % REPEAT_SLOTS];

    report_finished_windows(now_us);
    if (repeat->hash != hash || now_us - repeat->window_begin_us >= REPEAT_WINDOW_US) {
        if (repeat->dropped > 0) {
            report_drops(repeat);
        }
        *repeat = (struct repeat){.hash = hash, .window_begin_us = now_us, .level = level};
        (void)snprintf(repeat->part, sizeof(repeat->part), "%s", part);
        (void)snprintf(repeat->message, sizeof(repeat->message), "%s", message);
    }
    repeat->count++;
    if (repeat->count > RMK_LOG_REPEAT_MAX) {
        repeats_with_drops += repeat->dropped == 0;
        repeat->dropped++;
        return false;
    }
    return true;
}

void rmk_log(enum rmk_log_level level, const char *part, const char *message, const char *fields,
             ...)
{
    struct line line;
    va_list arguments;

    if (!rmk_log_enabled(level)) {
        return;
    }
    line.size = 0;
    line.cut = false;
    append_head(&line, level, part, message);
    if (fields != NULL) {
        va_start(arguments, fields);
        append_fields(&line, fields, &arguments);
        va_end(arguments);
    }
    append_end(&line);

    (void)pthread_mutex_lock(&lock);
    if (level == RMK_LOG_DEBUG || may_pass(level, part, message)) {
        write_or_count(&line);
    }
    (void)pthread_mutex_unlock(&lock);
}
