/* What costs most for each frame, in C. pure.py says the same in Python; speedups.py chooses; the tests run both.
 *
 * Rules:
 *
 * 1. Nothing is read or written but inside a buffer whose size was asked for in the same call, and every length of a
 *    peer's is compared with what is left before anything is added to it.
 * 2. No state, no callbacks into Python but list.append, and the GIL is kept: the payloads are small.
 *    A buffer of new_buffer() is a bytes object that is written into while its one owner, the reader, shows it to nobody.
 * 3. What is not wholly plain (a fragment, a control frame, a breach of a rule) is left to Python: one place refuses.
 * 4. A returned None is a new reference: Py_NewRef(Py_None). Py_RETURN_NONE, and its siblings for True, False and
 *    NotImplemented, take no reference in the headers of Python 3.12 and 3.13, also for the limited API of 3.11, where
 *    these objects are not immortal. A wheel that is built by 3.12 or later would then free None in Python 3.11.
 */

#define PY_SSIZE_T_CLEAN
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030B0000 /* the buffer protocol came into the stable ABI with 3.11 */
#endif
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MASK_SIZE 4
#define MAX_HEAD 14 /* RFC 6455 5.2: two bytes, a length of eight, a mask */
#define OVERHEAD 64 /* MESSAGE_OVERHEAD of pure.py */
#define SMALL 1024  /* bytes of a masked text that are unmasked on the stack */

enum { TEXT = 0x81, BINARY = 0x82, RSV1 = 0x40, MASKED = 0x80, LENGTH_16 = 126, LENGTH_64 = 127 };

static void
xor_mask(unsigned char *restrict out, const unsigned char *restrict in, Py_ssize_t size, const unsigned char *mask)
{
    uint64_t key, word[4];
    Py_ssize_t i = 0;

    memcpy(&key, mask, MASK_SIZE);
    memcpy((unsigned char *)&key + MASK_SIZE, mask, MASK_SIZE);
    for (; size - i >= (Py_ssize_t)sizeof word; i += sizeof word) {
        memcpy(word, in + i, sizeof word);
        word[0] ^= key;
        word[1] ^= key;
        word[2] ^= key;
        word[3] ^= key;
        memcpy(out + i, word, sizeof word);
    }
    for (; i < size; i++) {
        out[i] = in[i] ^ mask[i % MASK_SIZE];
    }
}

/* Where the bytes of an object are; NULL with an exception if it has another size than a mask. */
static const unsigned char *
mask_bytes(PyObject *mask)
{
    char *bytes;
    Py_ssize_t size;

    if (PyBytes_AsStringAndSize(mask, &bytes, &size) < 0) {
        return NULL;
    }
    if (size != MASK_SIZE) {
        PyErr_Format(PyExc_ValueError, "mask must have 4 bytes, not %zd", size);
        return NULL;
    }
    return (unsigned char *)bytes;
}

static int
check_arguments(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given != wanted) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", name, wanted, given);
        return -1;
    }
    return 0;
}

static PyObject *
apply_mask(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer data;
    const unsigned char *mask;
    PyObject *result;

    if (check_arguments("apply_mask", nargs, 2) < 0 || (mask = mask_bytes(args[1])) == NULL ||
        PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    result = PyBytes_FromStringAndSize(NULL, data.len);
    if (result != NULL) {
        xor_mask((unsigned char *)PyBytes_AsString(result), data.buf, data.len, mask);
    }
    PyBuffer_Release(&data);
    return result;
}

/* Write the bytes of a frame before its mask; return how many. */
static Py_ssize_t
write_head(unsigned char *head, unsigned char first, Py_ssize_t length, unsigned char mask_bit)
{
    int shift, bits;

    head[0] = first;
    if (length < LENGTH_16) {
        head[1] = (unsigned char)(mask_bit | length);
        return 2;
    }
    head[1] = mask_bit | (length < 0x10000 ? LENGTH_16 : LENGTH_64);
    bits = length < 0x10000 ? 16 : 64;
    for (shift = 0; shift < bits; shift += 8) {
        head[2 + shift / 8] = (unsigned char)((uint64_t)length >> (bits - 8 - shift));
    }
    return 2 + bits / 8;
}

static PyObject *
make_frame(unsigned char first, const void *payload, Py_ssize_t length, const unsigned char *mask)
{
    unsigned char head[MAX_HEAD], *out;
    Py_ssize_t size;
    PyObject *result;

    size = write_head(head, first, length, mask == NULL ? 0 : MASKED);
    if (mask != NULL) {
        memcpy(head + size, mask, MASK_SIZE);
        size += MASK_SIZE;
    }
    if (length > PY_SSIZE_T_MAX - size) {
        return PyErr_NoMemory();
    }
    result = PyBytes_FromStringAndSize(NULL, size + length);
    if (result != NULL) {
        out = (unsigned char *)PyBytes_AsString(result);
        memcpy(out, head, (size_t)size);
        if (mask != NULL) {
            xor_mask(out + size, payload, length, mask);
        }
        else if (length) {
            memcpy(out + size, payload, (size_t)length);
        }
    }
    return result;
}

static PyObject *
write_frame(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer payload;
    const unsigned char *mask = NULL;
    long first;
    PyObject *result;

    if (check_arguments("write_frame", nargs, 3) < 0) {
        return NULL;
    }
    first = PyLong_AsLong(args[0]);
    if (first == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (first < 0 || first > 0xFF) {
        PyErr_SetString(PyExc_ValueError, "first must be a byte");
        return NULL;
    }
    if ((args[2] != Py_None && (mask = mask_bytes(args[2])) == NULL) ||
        PyObject_GetBuffer(args[1], &payload, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    result = make_frame((unsigned char)first, payload.buf, payload.len, mask);
    PyBuffer_Release(&payload);
    return result;
}

static PyObject *
write_message(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    char *payload;
    Py_ssize_t length;
    const unsigned char *mask = NULL;
    PyObject *encoded, *result = NULL;
    int is_text;

    if (check_arguments("write_message", nargs, 2) < 0 ||
        (args[1] != Py_None && (mask = mask_bytes(args[1])) == NULL)) {
        return NULL;
    }
    is_text = PyUnicode_Check(args[0]);
    encoded = is_text ? PyUnicode_AsUTF8String(args[0]) : Py_NewRef(args[0]);
    if (encoded == NULL) {
        return NULL;
    }
    if (PyBytes_AsStringAndSize(encoded, &payload, &length) == 0) {
        result = make_frame(is_text ? TEXT : BINARY, payload, length, mask);
    }
    Py_DECREF(encoded);
    return result;
}

static PyObject *
masked_text(const unsigned char *payload, Py_ssize_t length, const unsigned char *mask)
{
    unsigned char small[SMALL], *plain = small;
    PyObject *text;

    if (length > SMALL && (plain = PyMem_Malloc((size_t)length)) == NULL) {
        return PyErr_NoMemory();
    }
    xor_mask(plain, payload, length, mask);
    text = PyUnicode_DecodeUTF8((char *)plain, length, NULL);
    if (plain != small) {
        PyMem_Free(plain);
    }
    return text;
}

static PyObject *
make_message(unsigned char first, const unsigned char *payload, Py_ssize_t length, const unsigned char *mask)
{
    PyObject *message;

    if (first == TEXT) {
        return mask != NULL ? masked_text(payload, length, mask)
                            : PyUnicode_DecodeUTF8((const char *)payload, length, NULL);
    }
    if (mask == NULL) {
        return PyBytes_FromStringAndSize((const char *)payload, length);
    }
    message = PyBytes_FromStringAndSize(NULL, length);
    if (message != NULL) {
        xor_mask((unsigned char *)PyBytes_AsString(message), payload, length, mask);
    }
    return message;
}

/* Look for a whole message in one frame in data[0:left], whose first byte is, or stands for, that of one; give its
 * length, return how long its head is, 0 if there is none. */
static Py_ssize_t
read_head(const unsigned char *data, unsigned char first, Py_ssize_t left, unsigned char mask_bit, Py_ssize_t limit,
          Py_ssize_t *length)
{
    Py_ssize_t head = mask_bit ? 2 + MASK_SIZE : 2;

    if (left < head || (first != TEXT && first != BINARY)) {
        return 0;
    }
    *length = data[1] ^ mask_bit; /* from 128 on: masked and must not be, or the other way */
    if (*length == LENGTH_16) {
        head += 2;
        if (left < head) {
            return 0;
        }
        *length = data[2] << 8 | data[3];
        if (*length < LENGTH_16) {
            return 0;
        }
    }
    else if (*length > LENGTH_16) {
        return 0;
    }
    return *length < limit && *length <= left - head ? head : 0;
}

static PyObject *
take_messages(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    char *data;
    Py_ssize_t size, position, limit, budget, head, length;
    double room;
    long mask_bit;
    const unsigned char *frame;
    PyObject *message;
    int failed;

    if (check_arguments("take_messages", nargs, 7) < 0 || PyBytes_AsStringAndSize(args[0], &data, &size) < 0) {
        return NULL;
    }
    position = PyLong_AsSsize_t(args[1]);
    mask_bit = PyLong_AsLong(args[2]);
    limit = PyLong_AsSsize_t(args[3]);
    budget = PyLong_AsSsize_t(args[4]);
    room = PyFloat_AsDouble(args[5]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (position < 0 || position > size) {
        PyErr_SetString(PyExc_ValueError, "position must be inside data");
        return NULL;
    }
    while (budget > 0 && room > 0) {
        frame = (unsigned char *)data + position;
        if (position == size) {
            break;
        }
        head = read_head(frame, frame[0], size - position, mask_bit ? MASKED : 0, limit, &length);
        if (head == 0) {
            break;
        }
        message = make_message(frame[0], frame + head, length, mask_bit ? frame + head - MASK_SIZE : NULL);
        if (message == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
                return NULL;
            }
            PyErr_Clear(); /* rule 3 */
            break;
        }
        failed = PyList_Append(args[6], message);
        Py_DECREF(message);
        if (failed) {
            return NULL;
        }
        position += head + length;
        budget--;
        room -= (double)(length + OVERHEAD);
    }
    return Py_BuildValue("nnd", position, budget, room);
}

static PyObject *
take_message(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    char *data;
    Py_ssize_t size, limit, head, length;
    long mask_bit;
    const unsigned char *frame;
    PyObject *message;

    if (check_arguments("take_message", nargs, 3) < 0 || PyBytes_AsStringAndSize(args[0], &data, &size) < 0) {
        return NULL;
    }
    mask_bit = PyLong_AsLong(args[1]);
    limit = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    frame = (unsigned char *)data;
    head = size ? read_head(frame, frame[0], size, mask_bit ? MASKED : 0, limit, &length) : 0;
    if (head == 0 || length != size - head) {
        return Py_NewRef(Py_None);
    }
    message = make_message(frame[0], frame + head, length, mask_bit ? frame + head - MASK_SIZE : NULL);
    if (message == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear(); /* rule 3 */
        return Py_NewRef(Py_None);
    }
    return message;
}

/* Where a whole compressed message in one frame is here, give its first byte, its payload and where it ends. */
static PyObject *
take_deflated(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    char *data;
    Py_ssize_t size, position, head, length;
    long mask_bit;
    const unsigned char *frame;
    unsigned char first;
    PyObject *payload;

    if (check_arguments("take_deflated", nargs, 3) < 0 || PyBytes_AsStringAndSize(args[0], &data, &size) < 0) {
        return NULL;
    }
    position = PyLong_AsSsize_t(args[1]);
    mask_bit = PyLong_AsLong(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (position < 0 || position > size) {
        PyErr_SetString(PyExc_ValueError, "position must be inside data");
        return NULL;
    }
    frame = (unsigned char *)data + position;
    if (position == size || !(frame[0] & RSV1)) {
        return Py_NewRef(Py_None);
    }
    first = (unsigned char)(frame[0] ^ RSV1);
    head = read_head(frame, first, size - position, mask_bit ? MASKED : 0, 0x10000, &length);
    if (head == 0) {
        return Py_NewRef(Py_None);
    }
    payload = make_message(BINARY, frame + head, length, mask_bit ? frame + head - MASK_SIZE : NULL);
    return payload == NULL ? NULL : Py_BuildValue("iNn", first, payload, position + head + length);
}

static PyObject *
weigh(PyObject *Py_UNUSED(module), PyObject *message)
{
    long long size = PyObject_Length(message);
    PyObject *answer;
    int ascii;

    if (size < 0) {
        return NULL;
    }
    if (PyUnicode_Check(message)) {
        if ((answer = PyObject_CallMethod(message, "isascii", NULL)) == NULL) {
            return NULL;
        }
        ascii = PyObject_IsTrue(answer);
        Py_DECREF(answer);
        if (!ascii) {
            size *= 4;
        }
    }
    return PyLong_FromLongLong(size + OVERHEAD);
}

static PyObject *
new_buffer(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t size;

    if (check_arguments("new_buffer", nargs, 1) < 0) {
        return NULL;
    }
    size = PyLong_AsSsize_t(args[0]);
    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (size < 2) { /* the interpreter shares objects of these sizes */
        PyErr_SetString(PyExc_ValueError, "size must be 2 or more");
        return NULL;
    }
    return PyBytes_FromStringAndSize(NULL, size);
}

static PyObject *
fill(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    char *buffer, *data;
    Py_ssize_t room, size, at, start, stop;
    const unsigned char *mask = NULL;

    if (check_arguments("fill", nargs, 6) < 0 || PyBytes_AsStringAndSize(args[0], &buffer, &room) < 0 ||
        PyBytes_AsStringAndSize(args[2], &data, &size) < 0) {
        return NULL;
    }
    at = PyLong_AsSsize_t(args[1]);
    start = PyLong_AsSsize_t(args[3]);
    stop = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred() || (args[5] != Py_None && (mask = mask_bytes(args[5])) == NULL)) {
        return NULL;
    }
    if (buffer == data || start < 0 || stop < start || stop > size || at < 0 || at > room || stop - start > room - at) {
        PyErr_SetString(PyExc_ValueError, "what is copied must be inside data, and have room in the buffer");
        return NULL;
    }
    if (mask != NULL) {
        xor_mask((unsigned char *)buffer + at, (unsigned char *)data + start, stop - start, mask);
    }
    else {
        memcpy(buffer + at, data + start, (size_t)(stop - start));
    }
    return Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"apply_mask", (PyCFunction)(void (*)(void))apply_mask, METH_FASTCALL, NULL},
    {"write_frame", (PyCFunction)(void (*)(void))write_frame, METH_FASTCALL, NULL},
    {"write_message", (PyCFunction)(void (*)(void))write_message, METH_FASTCALL, NULL},
    {"new_buffer", (PyCFunction)(void (*)(void))new_buffer, METH_FASTCALL, NULL},
    {"fill", (PyCFunction)(void (*)(void))fill, METH_FASTCALL, NULL},
    {"weigh", weigh, METH_O, NULL},
    {"take_deflated", (PyCFunction)(void (*)(void))take_deflated, METH_FASTCALL, NULL},
    {"take_message", (PyCFunction)(void (*)(void))take_message, METH_FASTCALL, NULL},
    {"take_messages", (PyCFunction)(void (*)(void))take_messages, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "trio_ws._wire._speedups",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&module);
}
