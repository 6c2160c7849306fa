/* A palisade plugin in C: host and domain name of the workload, and aliases for a name of its own.
 *
 * What it isolates: nothing by itself; what the workload calls its host, in a uts namespace of its own.
 * From which kernel: Linux 2.6.19 (uts namespaces).
 * What it cannot stop: a workload that learns the host's name from a file.
 *
 * It shows a step of its own (the domain name: setdomainname(2), read back from inside), ready-made steps (the host
 * name; a file with the aliases), an option, a list, and errors that point at the line. */

#define _GNU_SOURCE
#include "palisade_plugin.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

PALISADE_MANIFEST_RON((
    name: "c-hostname",
    version: "0.1.0",
    seam: "1.1",
    summary: "names the workload's host and domain, and gives the host aliases",
    stages: [build],
    after: {
        "namespaces": "the names are those of the workload's own uts namespace",
        "filesystem": "the file of aliases lies in the workload's view",
    },
    privileges: { "CAP_SYS_ADMIN": "over the uts namespace; in a new user namespace the child has it" },
    kernel: { "uts namespaces": "2.6.19; refused" },
    cannot_stop: ["a workload that learns the host's name from a file"],
    reference: "( \
        host: \"box\", domain: \"fence.example\", /* The host's name and domain, 1 to 64 bytes each. */ \
        aliases: [\"mirror\"], /* More names for it: lines of the file HOSTALIASES, see hostname(7). */ \
        file: \"/tmp/aliases\", /* Where that file is made, in a directory of the workload's own. */ \
    )"
))

enum { LONGEST = 64, PLACE = 4096 };

/* One launch: what the policy asks for. */
struct names {
    char host[LONGEST + 1], domain[LONGEST + 1], file[PLACE];
    /* The launcher's own uts namespace. */
    char launcher[PLACE];
    char *aliases;
    struct palisade_origin host_line, domain_line, aliases_line;
};

/* Copies a value of the section, where the policy sets it. Gives 0, or what configure returns. */
static int32_t option(const struct palisade_host *host, const char *path, char *to, size_t room,
                      struct palisade_origin *line) {
    struct palisade_text value;
    if (!host->value(host, palisade_text_of(path), &value)) return 0;
    if (line != NULL) host->origin(host, palisade_text_of(path), line);
    if (value.length == 0 || value.length >= room || memchr(value.data, '"', value.length) != NULL) {
        char message[128];
        snprintf(message, sizeof message, "`%s` has %zu bytes; 1 to %zu fit, without quotes", path, value.length,
                 room - 1);
        struct palisade_origin place;
        bool known = host->origin(host, palisade_text_of(path), &place);
        return palisade_failed(host, PALISADE_POLICY, message, NULL, 0, "shorten it", known ? &place : NULL);
    }
    memcpy(to, value.data, value.length);
    to[value.length] = '\0';
    return 0;
}

/* `NAME HOST` for each alias, as text of RON. */
static int32_t aliases(const struct palisade_host *host, struct names *names) {
    size_t count = host->count(host, PALISADE_TEXT("aliases"));
    if (count == 0) return 0;
    if (names->host[0] == '\0' || names->file[0] == '\0') {
        struct palisade_origin place;
        host->origin(host, PALISADE_TEXT("aliases"), &place);
        return palisade_failed(host, PALISADE_POLICY, "aliases need a name that they stand for, and a file", NULL, 0,
                               "set `host` and `file`", &place);
    }
    size_t room = count * (2 * LONGEST + 8) + 1, used = 0;
    names->aliases = calloc(room, 1);
    if (names->aliases == NULL)
        return palisade_failed(host, PALISADE_SETUP, "no memory", "calloc()", ENOMEM, NULL, NULL);
    for (size_t index = 0; index < count; index++) {
        char path[32], alias[LONGEST + 1] = "";
        snprintf(path, sizeof path, "aliases.%zu", index);
        if (option(host, path, alias, sizeof alias, index == 0 ? &names->aliases_line : NULL) != 0) return -1;
        used += (size_t)snprintf(names->aliases + used, room - used, "%s %s\\n", alias, names->host);
    }
    return 0;
}

/* This process's uts namespace, as the kernel names it; empty where it cannot be seen. */
static void own_namespace(char (*to)[PLACE]) {
    ssize_t length = readlink("/proc/self/ns/uts", *to, sizeof *to - 1);
    (*to)[length < 0 ? 0 : length] = '\0';
}

static void release(void *isolator) {
    struct names *names = isolator;
    free(names->aliases);
    free(names);
}

static int32_t configure(const struct palisade_host *host, void **isolator) {
    struct names *names = calloc(1, sizeof *names);
    if (names == NULL) return palisade_failed(host, PALISADE_SETUP, "no memory", "calloc()", ENOMEM, NULL, NULL);
    if (option(host, "host", names->host, sizeof names->host, &names->host_line) != 0 ||
        option(host, "domain", names->domain, sizeof names->domain, &names->domain_line) != 0 ||
        option(host, "file", names->file, sizeof names->file, NULL) != 0 || aliases(host, names) != 0) {
        release(names);
        return -1;
    }
    own_namespace(&names->launcher);
    *isolator = names;
    return 0;
}

/* What the kernel has: uname(2). */
static int32_t read_back(const struct palisade_host *host, void *data) {
    const struct names *names = data;
    struct utsname found;
    if (uname(&found) != 0)
        return palisade_failed(host, PALISADE_SETUP, "the names cannot be read back", "uname()", errno, NULL, NULL);
    if (strcmp(found.domainname, names->domain) != 0)
        return palisade_failed(host, PALISADE_SETUP, "the domain name is another than the one that was set", NULL, 0,
                               "a step of another plugin sets it, too", NULL);
    char said[LONGEST + 32];
    snprintf(said, sizeof said, "reads back as `%s`", found.domainname);
    host->evidence(host, palisade_text_of(said));
    return 0;
}

/* Not before it is certain that the name is not the host's own: what is done in the child is not undone. */
static bool is_launchers(const struct names *names) {
    char own[PLACE];
    own_namespace(&own);
    return own[0] == '\0' || strcmp(own, names->launcher) == 0;
}

static int32_t set_domain(const struct palisade_host *host, void *data) {
    const struct names *names = data;
    if (is_launchers(names))
        return palisade_failed(host, PALISADE_SETUP, "this would name the host itself", NULL, 0,
                               "add uts: New to the policy's namespaces", NULL);
    if (setdomainname(names->domain, strlen(names->domain)) != 0) {
        int number = errno;
        char call[LONGEST + 32];
        snprintf(call, sizeof call, "setdomainname(\"%s\")", names->domain);
        return palisade_failed(host, PALISADE_SETUP, "the domain name cannot be set", call, number, NULL, NULL);
    }
    return read_back(host, data);
}

static int32_t plan(const struct palisade_host *host, void *isolator) {
    struct names *names = isolator;
    char words[2 * PLACE], ready[3 * PLACE];
    if (names->host[0] != '\0') {
        snprintf(words, sizeof words, "names the host `%s`", names->host);
        snprintf(ready, sizeof ready, "Hostname(name: \"%s\")", names->host);
        struct palisade_step step = {.size = sizeof step,
                                     .stage = PALISADE_TEXT("build"),
                                     .words = palisade_text_of(words),
                                     .origin = &names->host_line,
                                     .ready = palisade_text_of(ready)};
        host->step(host, &step);
    }
    if (names->domain[0] != '\0') {
        snprintf(words, sizeof words, "names the domain `%s`", names->domain);
        struct palisade_step step = {.size = sizeof step,
                                     .stage = PALISADE_TEXT("build"),
                                     .words = palisade_text_of(words),
                                     .why = PALISADE_TEXT("programs ask for it with getdomainname(2)"),
                                     .origin = &names->domain_line,
                                     .apply = set_domain,
                                     .witness = read_back,
                                     .data = names};
        host->step(host, &step);
    }
    if (names->aliases != NULL) {
        size_t room = strlen(names->aliases) + PLACE + 128;
        char *text = malloc(room);
        if (text == NULL) return palisade_failed(host, PALISADE_SETUP, "no memory", "malloc()", ENOMEM, NULL, NULL);
        snprintf(text, room, "WriteFile(path: \"%s\", text: \"%s\", mode: 0o644)", names->file, names->aliases);
        snprintf(words, sizeof words, "writes aliases of the host to %s", names->file);
        struct palisade_step step = {.size = sizeof step,
                                     .stage = PALISADE_TEXT("build"),
                                     .words = palisade_text_of(words),
                                     .origin = &names->aliases_line,
                                     .ready = palisade_text_of(text)};
        host->step(host, &step);
        free(text);
    }
    return 0;
}

static int32_t probe(const struct palisade_host *host) {
    bool there = access("/proc/self/ns/uts", F_OK) == 0;
    struct palisade_finding finding = {.size = sizeof finding,
                                       .support = there ? PALISADE_FULL : PALISADE_MISSING,
                                       .feature = PALISADE_TEXT("uts namespaces"),
                                       .detail = PALISADE_TEXT("/proc/self/ns/uts"),
                                       .remedy = palisade_text_of(there ? "" : "a kernel with CONFIG_UTS_NS")};
    host->finding(host, &finding);
    return 0;
}

const struct palisade_plugin_table palisade_plugin = {
    .size = sizeof palisade_plugin,
    .seam_major = PALISADE_SEAM_MAJOR,
    .seam_minor = PALISADE_SEAM_MINOR,
    .probe = probe,
    .configure = configure,
    .plan = plan,
    .release = release,
};
