// A palisade plugin in C++, without exceptions, RTTI and the C++ library: resource limits as one number of "how much of
// the launcher's own", all of them ready-made steps.
//
// What it isolates: how much the workload's processes may use of what getrlimit(2) counts.
// From which kernel: every one.
// What it cannot stop: what limits of one process cannot, such as many processes; cgroups can.

#include "palisade_plugin.h"

#include <stdio.h>
#include <stdlib.h>

PALISADE_MANIFEST_RON((
    name: "cpp-limits",
    version: "0.1.0",
    seam: "1.1",
    summary: "limits what one process may use",
    stages: [drop],
    cannot_stop: ["many processes, each of which uses as much as it may"],
    reference: "( \
        /* Soft and hard limit by the resource's name in getrlimit(2), in its own unit, or \"unlimited\". */ \
        limits: { \"RLIMIT_NOFILE\": (soft: \"64\", hard: \"unlimited\") }, \
    )"
))

namespace {

constexpr size_t MOST = 16, ROOM = 192;

// One launch: the steps as text, and where each was written.
struct Limits {
    size_t count;
    char words[MOST][ROOM], ready[MOST][ROOM];
    palisade_origin line[MOST];
};

int32_t refuse(const palisade_host *host, const char *message, const char *help, const palisade_origin &place) {
    return palisade_failed(host, PALISADE_POLICY, message, nullptr, 0, help, &place);
}

// A number or `unlimited`, as a ready-made step has it.
bool amount(palisade_text text, char (&to)[32]) {
    const palisade_text unlimited = PALISADE_TEXT("unlimited");
    if (text.length == unlimited.length && memcmp(text.data, unlimited.data, text.length) == 0)
        return snprintf(to, sizeof to, "\"unlimited\"") > 0;
    for (size_t at = 0; at < text.length; at++)
        if (text.data[at] < '0' || text.data[at] > '9') return false;
    return text.length != 0 && text.length <= 20 &&
           snprintf(to, sizeof to, "%.*s", static_cast<int>(text.length), text.data) > 0;
}

// Soft or hard limit of a resource.
int32_t bound(const palisade_host *host, const char *resource, const char *which, char (&to)[32]) {
    char path[128];
    snprintf(path, sizeof path, "limits.%s", resource);
    palisade_origin place = {};
    host->origin(host, palisade_text_of(path), &place);
    snprintf(path, sizeof path, "limits.%s.%s", resource, which);
    palisade_text value = {};
    if (!host->value(host, palisade_text_of(path), &value))
        return refuse(host, "a limit needs both `soft` and `hard`", "add the other", place);
    host->origin(host, palisade_text_of(path), &place);
    if (!amount(value, to)) return refuse(host, "this is neither a number nor \"unlimited\"", "write digits", place);
    return 0;
}

int32_t one(const palisade_host *host, palisade_text name, Limits &limits) {
    char resource[64], soft[32], hard[32];
    const size_t at = limits.count;
    if (at == MOST || name.length >= sizeof resource)
        return palisade_failed(host, PALISADE_POLICY, "there are not so many resources", nullptr, 0,
                               "see getrlimit(2)", nullptr);
    snprintf(resource, sizeof resource, "%.*s", static_cast<int>(name.length), name.data);
    for (const char *byte = resource; *byte != '\0'; byte++)
        if ((*byte < 'A' || *byte > 'Z') && *byte != '_')
            return palisade_failed(host, PALISADE_POLICY, "a key of `limits` is no name of a resource", nullptr, 0,
                                   "write RLIMIT_NOFILE or another of getrlimit(2)", nullptr);
    if (bound(host, resource, "soft", soft) != 0 || bound(host, resource, "hard", hard) != 0) return -1;
    snprintf(limits.words[at], ROOM, "limits %s to %s, at most %s", resource, soft, hard);
    snprintf(limits.ready[at], ROOM, "Limit(resource: \"%s\", soft: %s, hard: %s)", resource, soft, hard);
    char path[128];
    snprintf(path, sizeof path, "limits.%s", resource);
    host->origin(host, palisade_text_of(path), &limits.line[at]);
    limits.count++;
    return 0;
}

int32_t configure(const palisade_host *host, void **isolator) {
    auto *limits = static_cast<Limits *>(calloc(1, sizeof(Limits)));
    if (limits == nullptr) return palisade_failed(host, PALISADE_SETUP, "no memory", "calloc()", 12, nullptr, nullptr);
    palisade_text name = {};
    for (size_t index = 0; host->key(host, PALISADE_TEXT("limits"), index, &name); index++)
        if (one(host, name, *limits) != 0) {
            free(limits);
            return -1;
        }
    *isolator = limits;
    return 0;
}

int32_t plan(const palisade_host *host, void *isolator) {
    const auto &limits = *static_cast<const Limits *>(isolator);
    for (size_t at = 0; at < limits.count; at++) {
        palisade_step step = {};
        step.size = sizeof step;
        step.stage = PALISADE_TEXT("drop");
        step.words = palisade_text_of(limits.words[at]);
        step.why = PALISADE_TEXT("what one process cannot use, it cannot take from others");
        step.origin = &limits.line[at];
        step.ready = palisade_text_of(limits.ready[at]);
        host->step(host, &step);
    }
    return 0;
}

constexpr palisade_plugin_table table() {
    palisade_plugin_table made = {};
    made.size = sizeof made;
    made.seam_major = PALISADE_SEAM_MAJOR;
    made.seam_minor = PALISADE_SEAM_MINOR;
    made.configure = configure;
    made.plan = plan;
    made.release = free;
    return made;
}

}  // namespace

constexpr palisade_plugin_table palisade_plugin = table();
