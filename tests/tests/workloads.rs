//! Each policy for one kind of work, with that work under it, as root and as an ordinary user; and with what this work
//! could be talked into, which must fail there and not without it.

use palisade_tests::{Leftovers, Project, Ran, Run, Scratch, Who, everybody, install, is_root, tree};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

const HELLO: (&str, &str) = ("main.c", "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n");

#[test]
fn compile_c() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("compile-c") {
        let make = "main: main.o\n\tcc -o main main.o\nmain.o: main.c\n\tcc -O1 -c main.c\n";
        let project = Project::new("compile-c", who, &[HELLO, ("Makefile", make), ("home/.netrc", "secret")]);
        project.sh("make -j4 && ./main").code(0).prints("built\n");
        assert!(project.path("main").exists());
        // Set-user-ID bits are for nobody.
        let setuid = "chmod u+s main";
        assert_ne!(project.sh(setuid).code, Some(0));
        project.bare(setuid).code(0);
        project.closed();
    }
    before.same();
}

#[test]
fn cargo_build() {
    let _alone = alone();
    for who in everybody("cargo-build") {
        let main =
            "fn main() { println!(\"{}\", env!(\"FROM_SCRIPT\")); }\n#[test]\nfn two() { assert_eq!(1 + 1, 2); }\n";
        let script = "fn main() { let home = std::env::var(\"HOME\").unwrap();\n\
            let token = std::fs::read_to_string(home + \"/.cargo/credentials.toml\").is_ok();\n\
            println!(\"cargo::rustc-env=FROM_SCRIPT=token {token}\"); }\n";
        let manifest = "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
        let project = Project::new(
            "cargo-build",
            who,
            &[
                ("Cargo.toml", manifest),
                ("src/main.rs", main),
                ("build.rs", script),
                ("home/.cargo/credentials.toml", "token = \"secret\"\n"),
                ("home/.cargo/config.toml", "[build]\njobs = 2\n"),
            ],
        );
        project.rust();
        let path = format!("{}/.rustup/toolchains/own/bin:/usr/bin:/bin", project.home.text());
        let cargo = |run: Run| run.env("PATH", &path).ran();
        let build = ["cargo", "test", "--quiet", "--offline"];
        cargo(project.under(&build, &[])).code(0).prints("1 passed");
        // The build script looked for the token, and there was none; outside there is.
        cargo(project.under(&["cargo", "run", "--quiet"], &[])).code(0).prints("token false");
        project.bare("rm -r target").code(0);
        let bare = Run::bare(["cargo", "run", "--quiet", "--offline"]).who(who).cwd(project.scratch.path());
        cargo(bare.env("HOME", project.home.text())).code(0).prints("token true");
        project.closed();
    }
}

#[test]
fn judge_compile_and_run() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("judge") {
        let square = "#include <stdio.h>\nint main(void) { int n; scanf(\"%d\", &n); printf(\"%d\\n\", n * n); }\n";
        let bad = "#include \"/etc/shadow\"\nint main(void) { return 0; }\n";
        let mut project = Project::new("judge-compile", who, &[("out/a.c", square), ("out/b.c", bad)]);
        // The submission's own directory is the project.
        let compile = |project: &Project, file: &str| {
            project.under(&["gcc", "-O2", "-o", "a", file], &[]).cwd(project.path("out")).ran()
        };
        compile(&project, "a.c").code(0);
        let ran = compile(&project, "b.c");
        assert!(ran.code == Some(1) && ran.stderr.contains("No such file"), "{}", ran.stderr);
        project.closed();
        // What was compiled is not run here.
        let run = ["./a"];
        assert_ne!(project.under(&run, &[]).cwd(project.path("out")).ran().code, Some(0));
        project.policy = "judge-run";
        // An ordinary user may have no cgroup; what is looked at here is the rest.
        let set: &[&str] = if who == Who::Root && is_root() { &[] } else { &["--set", "cgroups.demand=Degrade"] };
        let judged =
            |words: &[&str], input: &str| project.under(words, set).cwd(project.path("out")).stdin(input).ran();
        judged(&run, "12\n").code(0).prints("144\n");
        judged(&["/usr/bin/python3", "-c", "print(int(input()) ** 2)"], "12\n").code(0).prints("144\n");
        let socket = "import socket; socket.socket(socket.AF_UNIX); print('made')";
        let ran = judged(&["/usr/bin/python3", "-c", socket], "");
        assert!(ran.code != Some(0) && ran.stderr.contains("not permitted"), "{}", ran.stderr);
        Run::bare(["/usr/bin/python3", "-c", socket]).who(who).ran().code(0).prints("made");
    }
    before.same();
}

#[test]
fn media_convert() {
    let _alone = alone();
    let converter = ["/usr/bin/convert", "/usr/bin/magick", "/usr/local/bin/convert"];
    let Some(converter) = converter.into_iter().find(|path| Path::new(path).exists()) else {
        return palisade_tests::skip("imagemagick", "ImageMagick is not installed");
    };
    for who in everybody("media-convert") {
        let project = Project::new("media-convert", who, &[("in.ppm", "P3\n2 1\n255\n255 0 0 0 0 255\n")]);
        project.under(&[converter, "in.ppm", "-resize", "4x2", "out/small.ppm"], &[]).ran().code(0);
        let made = fs::read(project.path("out/small.ppm")).unwrap();
        assert!(made.starts_with(b"P6\n4 2\n"), "{made:?}");
        // It cannot change what it reads, nor leave a program.
        assert_ne!(project.sh("echo x > in.ppm").code, Some(0));
        let program = "cp /bin/true out/x && chmod 755 out/x && ./out/x";
        assert_ne!(project.sh(program).code, Some(0));
        project.bare("rm -f out/x").code(0);
        project.bare(program).code(0);
        project.closed();
    }
}

#[test]
fn parse_document() {
    let _alone = alone();
    let parse = "import zipfile, xml.etree.ElementTree as tree\n\
        with zipfile.ZipFile('a.docx') as a: print(''.join(tree.fromstring(a.read('word/document.xml')).itertext()))\n";
    let make = "import zipfile\nwith zipfile.ZipFile('a.docx', 'w') as a: a.writestr('word/document.xml', '<d><p>the text</p></d>')\n";
    for who in everybody("parse-document") {
        let project = Project::new("parse-document", who, &[("make.py", make), ("parse.py", parse)]);
        project.bare("/usr/bin/python3 make.py && chmod 644 a.docx").code(0);
        project.under(&["/usr/bin/python3", "parse.py"], &[]).ran().code(0).prints("the text\n");
        for act in ["touch new", "touch out/new", "cp /bin/true /tmp/x && /tmp/x"] {
            assert_ne!(project.sh(act).code, Some(0), "{act}");
        }
        project.bare("touch new out/new && cp /bin/true ./x && ./x").code(0);
        project.closed();
    }
}

#[test]
fn archive_extract() {
    let _alone = alone();
    // A file, one that is set-user-ID, one that leads out by its name, and one behind a link that leads out.
    let make = "import io, tarfile\n\
        a = tarfile.open('a.tar', 'w')\n\
        def add(name, mode=0o644, **more):\n\
        \x20   t = tarfile.TarInfo(name); t.mode = mode; t.size = 0 if more else 3\n\
        \x20   for key, value in more.items(): setattr(t, key, value)\n\
        \x20   a.addfile(t, io.BytesIO(b'hi\\n'))\n\
        add('plain'); add('suid', 0o4755); add('../escaped'); add('link', type=tarfile.SYMTYPE, linkname='..'); add('link/through')\n\
        a.close()\n";
    for who in everybody("archive-extract") {
        let project = Project::new("archive-extract", who, &[("make.py", make)]);
        project.bare("/usr/bin/python3 make.py && chmod 644 a.tar").code(0);
        // -p and -P are what a careless caller says.
        project.sh("tar xpPf ../a.tar");
        assert_eq!(fs::read_to_string(project.path("out/plain")).unwrap(), "hi\n");
        assert_eq!(fs::metadata(project.path("out/suid")).map_or(0, |facts| facts.permissions().mode() & 0o6000), 0);
        assert!(!project.path("escaped").exists() && !project.path("through").exists());
        // The twin: all of that is in it.
        project.bare("chmod 777 . ; rm -rf out/*; cd out && tar xpPf ../a.tar");
        assert_eq!(fs::metadata(project.path("out/suid")).unwrap().permissions().mode() & 0o6000, 0o4000);
        assert!(project.path("escaped").exists());
        project.closed();
    }
}

#[test]
fn code_interpreter() {
    let _alone = alone();
    for who in everybody("code-interpreter") {
        let project = Project::new("code-interpreter", who, &[("table.csv", "a,1\nb,2\n")]);
        let code = "import csv, json, subprocess\n\
            rows = {name: int(n) for name, n in csv.reader(open('/data/table.csv'))}\n\
            json.dump(rows, open('notes.json', 'w'))\n\
            print(subprocess.run(['cat', 'notes.json'], capture_output=True, text=True).stdout, sum(rows.values()))";
        project.under(&["/usr/bin/python3", "-c", code], &[]).ran().code(0).prints("{\"a\": 1, \"b\": 2} 3\n");
        assert_ne!(project.sh("echo x >> /data/table.csv").code, Some(0));
        project.bare("echo x >> table.csv").code(0);
        let ran = project.under(&["sh", "-c", "sleep 60"], &["--set", "process.timeout=300ms"]).ran();
        ran.code(124);
        project.closed();
    }
}

#[test]
fn fuzz_target() {
    let _alone = alone();
    // A buffer of four bytes, and who writes five.
    let target = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint main(void) { char in[64] = {0};\n\
        char *four = malloc(4); size_t n = fread(in, 1, 63, stdin); if (n > 4 && in[0] == 'x') memcpy(four, in, n);\n\
        putchar(four[0]); free(four); return 0; }\n";
    let fuzzer = "import random, subprocess\nrandom.seed(7)\nfor n in range(400):\n\
        \x20   data = bytes(random.choice(b'xyz') for _ in range(random.randrange(8)))\n\
        \x20   ran = subprocess.run(['./target'], input=data, capture_output=True)\n\
        \x20   if ran.returncode < 0:\n\
        \x20       open('out/crash', 'wb').write(data); print(ran.returncode, b'heap-buffer-overflow' in ran.stderr); break\n";
    for who in everybody("fuzz-target") {
        let project = Project::new("fuzz-target", who, &[("target.c", target), ("fuzz.py", fuzzer)]);
        project.bare("gcc -g -fsanitize=address -o target target.c").code(0);
        project.under(&["/usr/bin/python3", "fuzz.py"], &[]).ran().code(0).prints("-6 True\n");
        assert!(fs::read(project.path("out/crash")).unwrap().starts_with(b"x"));
        assert_ne!(project.sh("echo x > target").code, Some(0));
        project.bare("echo x > target").code(0);
        project.closed();
    }
}

#[test]
fn untrusted_binary() {
    let _alone = alone();
    let program = "#define _GNU_SOURCE\n#include <errno.h>\n#include <fcntl.h>\n#include <stdio.h>\n#include <string.h>\n\
        #include <sys/mman.h>\n#include <sys/stat.h>\n#include <unistd.h>\n\
        int main(int n, char **a) { if (n > 1) { puts(\"second stage\"); return 0; }\n\
        char b[65536]; int in = open(\"/proc/self/exe\", O_RDONLY), out = memfd_create(\"x\", 0);\n\
        if (out < 0) { printf(\"memfd %s\\n\", strerror(errno)); out = open(\"/tmp/palisade-second\", O_CREAT | O_RDWR | O_TRUNC, 0755); }\n\
        for (ssize_t r; (r = read(in, b, sizeof b)) > 0;) write(out, b, r);\n\
        fflush(stdout); char p[64]; sprintf(p, \"/proc/self/fd/%d\", out); int again = open(p, O_RDONLY); sprintf(p, \"/proc/self/fd/%d\", again); close(out);\n\
        execl(p, p, \"2\", (char *)0); printf(\"exec %s\\n\", strerror(errno)); return 0; }\n";
    for who in everybody("untrusted-binary") {
        let project = Project::new("untrusted-binary", who, &[("program.c", program)]);
        project.bare("gcc -o program program.c && chmod 755 program").code(0);
        let ran = project.under(&["/app/program"], &[]).ran().code(0);
        assert_eq!(ran.stdout, "memfd Operation not permitted\nexec Permission denied\n", "{}", ran.stderr);
        // Outside it becomes what it carries.
        project.bare("./program").code(0).prints("second stage");
        assert_ne!(project.sh("ls /proc/meminfo").code, Some(0));
        project.bare("ls /proc/meminfo").code(0);
        project.closed();
    }
}

/// A repository with one commit, and who commits.
fn repository(policy: &'static str, who: Who) -> Project {
    let make = "main: main.c\n\tcc -o main main.c\ntest: main\n\t./main | grep built\n";
    let gitconfig = "[user]\nname = Ann\nemail = ann@example.org\n";
    let ignore = "main\n";
    let files = [
        HELLO,
        ("Makefile", make),
        ("home/.gitconfig", gitconfig),
        ("home/.aws/credentials", "secret"),
        (".gitignore", ignore),
    ];
    let project = Project::new(policy, who, &files);
    project.bare("git init -q . && git add . && git commit -q -m first").code(0);
    project
}

/// What git would run later, outside, cannot be changed; outside it can.
fn git_is_safe(project: &Project) {
    for act in ["echo evil > .git/hooks/pre-commit", "git config core.pager evil", "mv .git .x", "rm .git/config"] {
        assert_ne!(project.sh(act).code, Some(0), "{}: {act}", project.policy);
    }
    project.bare("echo evil > .git/hooks/x && git config core.x evil && mv .git .x && mv .x .git").code(0);
}

#[test]
fn ci_job() {
    let _alone = alone();
    for who in everybody("ci-job") {
        let project = repository("ci-job", who);
        let job = "make test && git status --short && git log --format=%s && echo CI=$CI token=$API_TOKEN && cat";
        let ran = project.under(&["sh", "-c", job], &[]).env("API_TOKEN", "secret").stdin("typed").ran().code(0);
        assert!(ran.stdout.ends_with("built\nfirst\nCI=true token=\n"), "{}", ran.stdout);
        git_is_safe(&project);
        project.closed();
    }
}

#[test]
fn agent_shell() {
    let _alone = alone();
    for who in everybody("agent-shell") {
        let project = repository("agent-shell", who);
        let work =
            "sed -i s/built/edited/ main.c && make main && ./main && git commit -qam second && git log --format=%an:%s";
        project.sh(work).code(0).prints("edited\nAnn:second\nAnn:first\n");
        // The edit is the caller's.
        project.bare("grep edited main.c && git log --format=%s | grep second && test -O main.c").code(0);
        // An agent's edit as its tools make it.
        let edit = "import pathlib; p = pathlib.Path('main.c'); p.write_text(p.read_text().replace('edited', 'twice'))";
        project.under(&["/usr/bin/python3", "-c", edit], &[]).ran().code(0);
        let cat = "cat ~/.aws/credentials";
        assert_ne!(project.sh(cat).code, Some(0));
        project.bare(cat).code(0).prints("secret");
        git_is_safe(&project);
        project.closed();
    }
}

/// A server of tools, as an agent talks to it: one line of JSON for each question and each answer.
const TOOLS: &str = r#"
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        answer = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "files", "version": "1"}}
    elif asked["method"] == "tools/call":
        words = asked["params"]["arguments"]
        try:
            with open(words["path"], words["mode"]) as file:
                text = file.read() if words["mode"] == "r" else str(file.write("x"))
        except OSError as error:
            text = type(error).__name__
        answer = {"content": [{"type": "text", "text": text}]}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answer}))
"#;

#[test]
fn mcp_server() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("mcp-server") {
        let project = Project::new(
            "mcp-server",
            who,
            &[("tools.py", TOOLS), ("notes.txt", "of the project"), ("home/.aws/credentials", "secret")],
        );
        let credentials = format!("{}/.aws/credentials", project.home.text());
        let call = |path: &str, mode: &str| {
            let words = serde_json::json!({"path": path, "mode": mode});
            serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "file", "arguments": words}})
        };
        let first = serde_json::json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}});
        let asked = [first, call("notes.txt", "r"), call(&credentials, "r"), call("planted", "w")];
        let asked: String = asked.iter().map(|line| format!("{line}\n")).collect();
        let texts = |ran: Ran| {
            let ran = ran.code(0);
            assert_eq!(ran.stderr, "", "nothing but answers");
            let answers = ran.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            answers.filter_map(|a| Some(a["result"]["content"][0]["text"].as_str()?.to_owned())).collect::<Vec<_>>()
        };
        let server = ["/usr/bin/python3", "tools.py"];
        // It ends when there is nothing more to be asked.
        let ran = project.under(&server, &[]).stdin(asked.clone()).ran();
        assert_eq!(texts(ran), ["of the project", "FileNotFoundError", "OSError"]);
        let bare = Run::bare(server).who(who).cwd(project.scratch.path());
        assert_eq!(texts(bare.stdin(asked).ran()), ["of the project", "secret", "1"]);
        project.closed();
    }
    before.same();
}

#[test]
fn latex() {
    let _alone = alone();
    if !Path::new("/usr/bin/pdflatex").exists() {
        return palisade_tests::skip("latex", "pdflatex is not installed");
    }
    let before = Leftovers::now();
    let paper = "\\documentclass{article}\\begin{document}\\input{part}\\end{document}\n";
    // What it finds it shows; and it runs a command, where that is allowed.
    let evil = "\\documentclass{article}\\begin{document}\\immediate\\write18{touch ../planted}\n\
        \\newread\\file\\openin\\file=\\secret\\relax\\ifeof\\file\\typeout{hidden}\\else\\read\\file to\\line\\typeout{found \\line}\\fi\n\
        x\\end{document}\n";
    for who in everybody("latex") {
        let files = [("paper.tex", paper), ("part.tex", "One part."), ("evil.tex", evil), ("home/secret", "secret\n")];
        let project = Project::new("latex", who, &files);
        project.under(&["pdflatex", "../paper.tex"], &[]).ran().code(0);
        assert!(fs::read(project.path("out/paper.pdf")).unwrap().starts_with(b"%PDF"));
        let secret = format!("\\def\\secret{{{}/secret}}\\input{{../evil.tex}}", project.home.text());
        let words = ["pdflatex", "-shell-escape", "-interaction=nonstopmode", "-jobname=evil", &secret];
        project.under(&words, &[]).ran().code(0).prints("hidden");
        assert!(!project.path("planted").exists());
        fs::remove_dir_all(project.path("out")).unwrap();
        fs::create_dir(project.path("out")).unwrap();
        project.give(&project.scratch);
        let bare = Run::bare(words).who(who).cwd(project.path("out")).env("HOME", project.home.text());
        bare.ran().code(0).prints("found secret");
        assert!(project.path("planted").exists());
        assert_ne!(project.sh("touch ../x").code, Some(0));
        project.bare("touch x").code(0);
        project.closed();
    }
    before.same();
}

/// A page whose script changes it, and another that is a program from elsewhere.
#[test]
fn headless_chromium() {
    let _alone = alone();
    let browsers = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"];
    let Some(browser) = browsers.into_iter().find(|path| Path::new(path).exists()) else {
        return palisade_tests::skip("chromium", "chromium-headless-shell is not installed");
    };
    let before = Leftovers::now();
    let page = "<p id=p>before</p><script>p.textContent = 'made by ' + 6 * 7</script>\n";
    let fetches = "<p id=p>before</p><script src=http://127.0.0.1:8081/served.js></script>\n";
    let served = Scratch::new();
    served.file("served.js", "p.textContent = 'made by another';\n");
    for who in everybody("headless-chromium") {
        let files = [("page.html", page), ("fetches.html", fetches), ("home/secret", "a secret\n")];
        let project = Project::new("headless-chromium", who, &files);
        let options = ["--headless", "--no-sandbox", "--disable-dev-shm-usage"];
        let words = |more: &[&'static str]| [&[browser], &options[..], more].concat();
        let print = words(&["--print-to-pdf=/work/out/page.pdf", "file:///work/page.html"]);
        project.under(&print, &[]).ran().code(0);
        assert!(fs::read(project.path("out/page.pdf")).unwrap().starts_with(b"%PDF"));
        project.under(&words(&["--dump-dom", "file:///work/page.html"]), &[]).ran().code(0).prints("made by 42");
        let dump = |page: &str| [&words(&["--dump-dom"])[..], &[page]].concat().join(" ");
        // A script from a service of the host, in a network that only root can make.
        if is_root() {
            let ran = project.networked(&served, "8081", &["sh", "-c", &dump("file:///work/fetches.html")], Some(&[]));
            assert!(ran.code(0).stdout.contains(">before<"));
            let own = format!("file://{}/fetches.html", project.scratch.text());
            project.networked(&served, "8081", &["sh", "-c", &dump(&own)], None).code(0).prints(">made by another<");
        }
        // A file of the caller's.
        let secret = dump(&format!("file://{}/secret", project.home.text()));
        assert!(!project.sh(&secret).stdout.contains("a secret"));
        project.bare(&secret).code(0).prints("a secret");
        project.closed();
    }
    before.same();
}

#[test]
fn container() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("container") {
        let project = Project::new("container", who, &[("root/etc/issue", "another system\n")]);
        let root = project.path("root");
        for dir in ["proc", "dev", "tmp"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        for program in ["/bin/sh", "/bin/cat", "/bin/ls", "/bin/touch", "/usr/bin/id"] {
            install(&root, program);
        }
        project.give(&project.scratch);
        let var = format!("rootfs={}", root.display());
        let sh = |script: &str| project.under(&["/bin/sh", "-c", script], &["--var", &var]).ran();
        let ran = sh("id -u; cat /etc/issue; echo x > /tmp/x && cat /tmp/x; ls /");
        ran.code(0).prints("0\nanother system\nx\nbin\ndev\netc\n");
        // Its root is nobody: neither its own system nor the host's can be changed, and nothing of the host's is there.
        for act in
            ["touch /etc/x", "touch /proc/sys/kernel/hostname && echo x > /proc/sys/kernel/hostname", "ls /var/tmp"]
        {
            assert_ne!(sh(act).code, Some(0), "{act}");
        }
        project.bare("touch root/etc/x && rm root/etc/x && ls /var/tmp").code(0);
        let ran = project.under(&["/bin/sh"], &[]).ran();
        assert!(ran.code == Some(118) && ran.stderr.contains("rootfs"), "{}", ran.stderr);
    }
    before.same();
}

#[test]
fn the_table_of_the_policies_lists_all_that_ship() {
    let readme = fs::read_to_string(tree().join("policies/README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut listed = Vec::new();
    for row in rows {
        let (name, rest) = row.split_once("` |").unwrap();
        let cells: Vec<&str> = rest.trim_end_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
        listed.push(name.to_owned());
    }
    let shipped: Vec<String> = palisade_runtime::SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed, shipped, "the table of policies/README.md, in the order of the alphabet");
    let mut files: Vec<String> = fs::read_dir(tree().join("policies"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().strip_suffix(".ron").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, shipped, "every file of policies/ is built in");
    for (name, text) in palisade_runtime::SHIPPED {
        assert!(text.starts_with("//"), "{name} says first whom it is for");
    }
}
