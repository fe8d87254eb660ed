#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""structures.py PAGE INCLUDE - a page with what its headers say of structures, constants and callbacks.

A line "; structures: log.h" of the page is replaced by a section that is made of the comments and definitions
of that header (several may be named), so that they are written once. Left out is what a header calls private or frozen, and
macros that take arguments, which pages describe themselves.
"""
import re
import sys

HIDDEN = re.compile(r'all of it is private|; private|frozen (?:view|part)')
OTHER_MACROS = re.compile(r'GUESTMEM_\w+_H|GM_VIEW_VERSION|[a-z]\w*')
THING = re.compile(
    r'(?P<doc>/\*(?:(?!\*/).)*\*/\n)?'
    r'(?:(?P<kind>struct|enum) (?P<name>\w*) ?\{\n(?P<body>.*?)\n\};'
    r'|(?P<macros>(?:#define \w+(?=\s)(?:\\\n|/\*.*?\*/|[^\n])*\n)+)'
    r'|(?P<callback>typedef [^;]*?\(\*\w+\)\([^;]*\);))', re.S | re.M)
TRAILING = r'\s*/\*(.*?)\*/'


def plain(comment):
    """The lines of a comment without what makes it one."""
    text = re.sub(r'^\s*/\*+ ?|\s*\*/\s*$', '', comment)
    return [re.sub(r'^\s*\* ?', '', line).rstrip() for line in text.split('\n')]


def marked(text):
    """Text of a header as scdoc has it."""
    text = ' '.join(text.split())
    text = re.sub(r'([\\*_\[\]`])', r'\\\1', text)
    text = re.sub(r'@((?:\w|\\_)+)', lambda m: '_' + m.group(1).replace('\\', '') + '_', text)
    text = re.sub(r'(?<!\w)(gm(?:\\_|\w)+)\(\)', lambda m: '*' + m.group(1).replace('\\', '') + '*()', text)
    return re.sub(r'^(?=[#;|.-])', r'\\', text)


def described(comment):
    """(summary, [(member, text)], [paragraph]) of the comment in front of a thing."""
    summary, members, paragraphs = '', [], []
    into = None
    for line in plain(comment or ''):
        tag = re.match(r'@(\w+):\s*(.*)', line)
        if tag:
            members.append([tag.group(1), tag.group(2)])
            into = members
        elif not line:
            into = None
        elif into is members:
            members[-1][1] += ' ' + line
        elif into is paragraphs:
            paragraphs[-1] += ' ' + line
        elif not summary or into == 'summary':
            summary = f'{summary} {line}'.strip()
            into = 'summary'
        else:
            paragraphs.append(line)
            into = paragraphs
    return summary, members, paragraphs


def listed(entries):
    """A list of (name, text); those without a text stand together."""
    out, bare = [], []
    for name, text in [*entries, ('', '-')]:
        if not text:
            bare.append(name)
            continue
        if bare:
            out += [', '.join(bare), '']
            bare = []
        if name:
            out += [name, '\t' + marked(text)]
    return out


def wrapped(declaration):
    """A member on lines that a terminal shows."""
    line = '        ' + declaration + ';'
    while len(line) > 79:
        cut = line.rfind(', ', 0, 79) + 1
        if cut == 0:
            break
        yield line[:cut]
        line = '                ' + line[cut + 1:]
    yield line


def structure(name, body, doc):
    """A structure: its definition, and its members."""
    summary, members, paragraphs = described(doc)
    if HIDDEN.search(summary) or any(HIDDEN.search(text) for text in paragraphs):
        return []
    for text, comment in re.findall(r'([^;]*?);' + TRAILING, body, re.S):
        members.append((re.findall(r'\w+', re.sub(r'\[.*|/\*.*?\*/', '', text, flags=re.S))[-1], ' '.join(plain(comment))))
    code = re.sub(r'/\*.*?\*/', '', body, flags=re.S)
    out = [f'*struct {name}*' + (': ' if summary else '') + marked(re.sub(r'^struct \w+ - ', '', summary)), '']
    out += ['```', f'struct {name} {{']
    for declaration in code.split(';'):
        if declaration.strip():
            out += wrapped(' '.join(declaration.split()))
    out += ['};', '```', '']
    out += listed([(f'_{member}_', text) for member, text in members]) + ['']
    for text in paragraphs:
        out += [marked(text), '']
    return out


def enumeration(name, body, doc, known):
    """An enum: its constants with their values, of which some may be @known macros."""
    summary, _, paragraphs = described(doc)
    out = []
    if name or summary:
        out += [' '.join(filter(None, [f'*enum {name}*:' if name else '',
                                       marked(re.sub(r'^enum \w+ - ', '', summary))])), '']
    value, entries = -1, []
    for constant, given, comment in re.findall(
            r'(\w+)(?:\s*=\s*([^,/]+?))?\s*(?:,|$|(?=/\*))(?:' + TRAILING + ')?', body + '\n', re.S):
        value = int(known.get(given, given).rstrip('uUlL'), 0) if given else value + 1
        entries.append((f'*{constant}* ({value})', ' '.join(plain(comment))))
    out += listed(entries) + ['']
    for text in paragraphs:
        out += [marked(text), '']
    return out


def macros(text, doc):
    """Constants that are macros."""
    entries = []
    for name, value in re.findall(r'#define (\w+)((?:\\\n|/\*.*?\*/|[^\n])*)\n', text, re.S):
        comment = re.search(r'/\*(.*?)\*/', value, re.S)
        value = ' '.join(re.sub(r'/\*.*?\*/|\\\n', ' ', value, flags=re.S).split())
        value = re.sub(r'\b(0x[0-9a-f]+|\d+)[uUlL]+\b', r'\1', value)
        if value and not OTHER_MACROS.fullmatch(name):
            shown = '' if len(value) > 60 else ' (' + marked(value[1:-1] if re.fullmatch(r'\([^()]*\)', value) else value) + ')'
            said = ' '.join(' '.join(plain(comment.group(1).replace('\\\n', ' '))).split()) if comment else ''
            entries.append((f'*{name}*{shown}', said))
    if not entries:
        return []
    words = ' '.join(filter(None, plain(doc))) if doc else ''
    if len(entries) == 1 and words and not entries[0][1]:
        return listed([(entries[0][0], words)]) + ['']
    return ([marked(words), ''] if words else []) + listed(entries) + ['']


def callback(text, doc):
    """The type of a function of the caller."""
    summary, members, paragraphs = described(doc)
    line = ' '.join(text.split())
    out = ([marked(summary), ''] if summary else []) + ['```']
    out += [part[8:] if part.startswith('        typedef') else part for part in wrapped(line.rstrip(';'))]
    out += ['```', ''] + listed([(f'_{member}_', said) for member, said in members]) + ['']
    for said in paragraphs:
        out += [marked(said), '']
    return out


def section(path):
    """What one header says."""
    with open(path, encoding='utf-8') as file:
        text = file.read()
    text = text[text.index('#include') if '#include' in text else 0:]
    known = dict(re.findall(r'^#define (\w+) (\w+)', text, re.M))
    out = []
    for thing in THING.finditer(text):
        doc, kind = thing['doc'], thing['kind']
        if kind == 'struct':
            out += structure(thing['name'], thing['body'], doc)
        elif kind == 'enum':
            out += enumeration(thing['name'], thing['body'], doc, known)
        elif thing['macros']:
            out += macros(thing['macros'], doc)
        else:
            out += callback(thing['callback'], doc)
    return out


def main():
    """The page, on standard output."""
    page, include = sys.argv[1:]
    with open(page, encoding='utf-8') as file:
        for line in file:
            if not line.startswith('; structures: '):
                print(line, end='')
                continue
            out = ['# STRUCTURES AND CONSTANTS', '']
            for header in line.split()[2:]:
                out += section(f'{include}/guestmem/{header}')
            print(re.sub(r'\n{3,}', '\n\n', '\n'.join(out)).rstrip())


if __name__ == '__main__':
    main()
